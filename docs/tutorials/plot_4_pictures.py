"""
A hidden part of a face, and of any picture
===========================================

The masked part of a picture is filled, once or several times. All other pixels stay as they are, bit by bit.
"""

import matplotlib.pyplot as plt
import numpy as np
from skimage.data import astronaut

import lacunar as lc

picture = astronaut()[:256, 96:352]
missing = np.zeros(picture.shape[:2], dtype=bool)
missing[118:130, 60:200] = True  # a band across the face
missing[200:216, 20:90] = True  # and one over the suit

# %%
# Three different answers, and how far they differ.
answers = lc.inpaint(picture, missing, samples=3, seed=1)
assert (answers[:, ~missing] == picture[~missing]).all()

fig, axes = plt.subplots(1, 5, figsize=(14, 3.2), layout="constrained")
panels = [np.where(missing[..., None], 255, picture), *answers, answers.astype(float).std(axis=0).mean(axis=-1)]
for axis, panel, title in zip(axes, panels, ("masked", "sample 1", "sample 2", "sample 3", "spread"), strict=True):
    axis.imshow(panel, cmap="magma")
    axis.set_title(title)
    axis.set_axis_off()
plt.show()
# For faces, ``lacunar face PHOTO.jpg --mask MASK.png`` finds the face first and uses a model of faces. What it fills in is an
# invention that fits the rest, not evidence.
