"""A picture without what hides a part of it, and several answers to what may be there."""

import numpy as np
from PIL import Image
from skimage.data import astronaut

import lacunar as lc

picture = astronaut()[:192, 128:320]  # (y, x, 3), 8 bits
missing = np.zeros(picture.shape[:2], dtype=bool)
missing[60:84, 20:44] = True  # a patch of the background ...
missing[130:136, :] = True  # ... and a scratch

answers = lc.inpaint(picture, missing, samples=2, seed=1)
Image.fromarray(np.hstack([np.where(missing[..., None], 0, picture), *answers]).astype(np.uint8)).save("answers.png")
assert (answers[:, ~missing] == picture[~missing]).all()  # all else stays bit by bit
spread = np.abs(answers[0].astype(float) - answers[1])[missing].mean()
print(f"{missing.mean():.1%} filled; two answers differ by {spread:.1f} of 255 on average")
