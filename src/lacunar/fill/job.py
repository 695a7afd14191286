"""Fill a scene: a Landsat product, or any raster, becomes a filled raster with its uncertainty."""

from collections.abc import Callable
from typing import Any

from lacunar.fill.bands import asks_for_several, fill_bands
from lacunar.fill.blocks import fill_blocks, survey
from lacunar.fill.inputs import FillInputs, open_inputs
from lacunar.fill.options import FillOptions
from lacunar.fill.outputs import FillWriter, OutputFiles, finished_record
from lacunar.fill.provenance import fingerprint_of
from lacunar.geo.staging import finish_and_remove_dead

Callback = Callable[[int, int], None]


def fill_scene(
    inputs: FillInputs, files: OutputFiles, options: FillOptions | None = None, *, callback: Callback | None = None
) -> dict[str, Any]:
    """Fill the missing pixels of a scene block by block; all outputs take their names together, at the end.

    Returns the record that is also written beside the raster, as JSON. ``callback`` is called with (done, all). Raises
    `LacunarError` for bad input; nothing is written then.
    """
    options = options or FillOptions()
    if asks_for_several(inputs.band):
        return fill_bands(fill_scene, inputs, files, options, callback=callback)
    with open_inputs(inputs) as (scene, guides):
        finish_and_remove_dead(files.raster.parent)
        files.check_names(scene, options)
        model = options.load(len(guides))
        fingerprint = fingerprint_of(inputs, scene, guides, options, model)
        if files.resume and (record := finished_record(scene, files, options, fingerprint)):
            return record
        with FillWriter(scene, guides, files, options, model, fingerprint) as writer:
            bands = scene.reflectance if scene.kind == "product" else None
            found = survey(
                scene.measured, scene.shape, guides.read, suspect=options.suspect, bands=bands, options=options
            )
            writer.begin(found)
            for block in fill_blocks(
                scene.measured,
                scene.shape,
                found,
                model,
                options,
                guides=guides.read,
                finished=writer.finished,
                callback=callback,
            ):
                writer.add(block)
            return writer.finish()
