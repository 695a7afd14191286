"""Scenes that are one file: a picture, or a raster of one or several bands."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lacunar.errors import RasterError
from lacunar.geo.picture import UPRIGHT, orientation_of, upright, window_in_file
from lacunar.geo.raster import RasterSource
from lacunar.geo.windows import Tile
from lacunar.sensors.bands import BANDS, BandName, Encoding, channel_names, encoding_of
from lacunar.sensors.dialects import laid_out
from lacunar.sensors.plausible import TRUSTING, ValueJudge, limits_of
from lacunar.sensors.scene import (
    Measured,
    Planes,
    Scene,
    StoredAs,
    date_in,
    planes_of,
    sample_planes,
    scale_of,
    some_values,
)
from lacunar.sensors.sebal import LEVEL2_ST_ADD, LEVEL2_ST_MULT, digital_numbers_hint

PICTURE_CHANNELS = (1, 3)
BELOW_ZERO, MANY_BELOW = -0.02, 0.05  # a reflectance that hardly any surface has, and a share of all that is many
_AS_OPTIONS = f"--scale {LEVEL2_ST_MULT} --offset {LEVEL2_ST_ADD:g}"


class RasterScene(Scene):
    """A picture or raster, upright whatever its EXIF orientation says. Parameters are those of `open_scene`."""

    def __init__(
        self,
        path: Path,
        *,
        gap_mask: str | Path | None = None,
        invert: bool = False,
        stored: StoredAs | None = None,
    ) -> None:
        super().__init__(path)
        self._source = source = self._open_files.enter_context(RasterSource(path))
        self._stored = stored = stored or StoredAs()
        self._faults: set[str] = set()  # what was found in the bands, in words
        self._chosen = [index for index, colour in enumerate(source.colours, start=1) if colour != "alpha"]
        self._bands = laid_out(stored.bands, (len(self._chosen), source.count))
        self._alpha_is_band = len(self._chosen) < len(self._bands) == source.count
        if self._alpha_is_band:
            self._chosen = list(range(1, source.count + 1))
        self.channels = {number: source.band_names[number - 1] for number in self._chosen}
        placed = source.crs is not None or not source.transform.is_identity
        self._orientation = UPRIGHT if placed else orientation_of(path)
        self.shape = window_in_file(Tile(0, 0, *source.shape), source.shape, self._orientation).shape
        self.transform, self.crs = source.transform, source.crs
        self.units, self.date = source.units[0 if stored.band is None else self._lst_band - 1], date_in(path.name)
        if (stored.scale, stored.offset) == (LEVEL2_ST_MULT, LEVEL2_ST_ADD):
            self.units = "K"
        small = bool(self._chosen) and source.dtypes[self._chosen[0] - 1] in ("uint8", "uint16")
        self.kind = "picture" if not placed and small and len(self._chosen) in PICTURE_CHANNELS else "raster"
        self.inputs += source.files
        self._add_mask(gap_mask, inverted=invert)

    def check_lst(self, *, needs_qa: bool = True) -> None:
        """Refuse a raster of several bands, unless one is chosen."""
        _ = self._lst_band

    def measured(self, window: Tile | None = None) -> Measured:
        """The single or chosen band of a window; missing is its nodata, or with a gap mask what that names."""
        window = window or self._whole
        values = self._decoded(window)
        faults = {} if self._trusted else self._judge.faults(values)
        for where in faults.values():
            values[where] = np.nan
        known = np.isfinite(values)
        if self._mask is None:
            remarks = {f"{reason}: taken as missing": where for reason, where in faults.items()}
            return Measured(values, known, ~known, remarks)
        missing, remarks = self._masked(window)
        lost = ~known & ~missing
        remarks |= {f"{reason}: not measured": where for reason, where in faults.items()}
        remarks["hold no value and are not named by the gap mask: they stay nodata"] = lost
        return Measured(values, known & ~missing, missing, remarks)

    def _decoded(self, window: Tile) -> NDArray[np.float32]:
        """The band that `lst` gives, before it is judged."""
        return self._as_said(self._read(window, [self._lst_band], self._stored.nodata)[0])

    def _as_said(self, declared: NDArray[np.float32]) -> NDArray[np.float32]:
        """Values by the user's scale and offset, from those by the file's."""
        scale, offset = self._stored.scale, self._stored.offset
        if scale is offset is None:
            return declared
        encoding = encoding_of(self._source, [self._lst_band], declared, scale, offset, picture=False)
        return declared * np.float32(encoding.scale) + np.float32(encoding.offset)

    @cached_property
    def _lst_band(self) -> int:
        """Number of the band that `lst` gives, from 1."""
        source, asked = self._source, self._stored.band
        if asked is None and source.count == 1:
            return 1
        names = ", ".join(f"{number} {name}" for number, name in enumerate(source.band_names, start=1))
        if asked is None:
            extract = "choose it with --band (all: a fill of every one), or extract it first (rio stack --bidx)"
            raise RasterError(f"{self.path} has {source.count} bands: wanted one of {names}; {extract}")
        if asked in source.band_names:
            return source.band_names.index(str(asked)) + 1
        if not (str(asked).isdecimal() and 1 <= int(asked) <= source.count):
            raise RasterError(f"{self.path} has no band {asked!r}: wanted a number or a name of {names}")
        return int(asked)

    @property
    def _trusted(self) -> bool:
        """Whether the user says that every number is a measurement: nodata is nan."""
        return self._stored.nodata is not None and bool(np.isnan(self._stored.nodata))

    @cached_property
    def _judge(self) -> ValueJudge:
        source, index = self._source, self._lst_band - 1

        def physical(number: float) -> float:
            declared = np.array([number * source.scales[index] + source.offsets[index]], dtype=np.float32)
            return float(self._as_said(declared)[0])

        return ValueJudge.of(some_values(self._decoded, self.shape), units=self.units, physical=physical)

    def lst_record(self) -> dict[str, Any]:
        """The file."""
        mask = str(self._mask.path) if self._mask else None
        return {"raster": str(self.path), "gap_mask": mask, "notes": list(self.lst_notes())}

    def lst_notes(self) -> tuple[str, ...]:
        """Whether values look like digital numbers: said to be kelvin, or whole numbers that nothing explains."""
        source, index = self._source, self._lst_band - 1
        whole = np.issubdtype(np.dtype(source.dtypes[index]), np.integer) and not self.units
        told = (source.scales[index], source.offsets[index], self._stored.scale, self._stored.offset)
        if told != (1.0, 0.0, None, None) or not (self.in_kelvin or whole):
            return self.notes
        hint = digital_numbers_hint(self.some_lst())
        return (*self.notes, f"{self.name} {hint} ({_AS_OPTIONS})") if hint else self.notes

    @property
    def band_names(self) -> tuple[BandName, ...]:
        """Bands that the user or the file names."""
        return tuple(band for band in BANDS if band in self._channels[0])

    @property
    def band_units(self) -> str:
        """What is declared, said, or recognised."""
        return self._encoding.meaning

    @property
    def band_notes(self) -> tuple[str, ...]:
        """How channels and nodata were told, and what was found to be no reflectance."""
        return (*self._told_notes, *sorted(self._faults))

    @cached_property
    def _told_notes(self) -> tuple[str, ...]:
        notes = self._channels[1]
        aside = [str(index) for index in range(1, self._source.count + 1) if index not in self._chosen]
        if aside:
            notes += (
                f"channel {' and '.join(aside)} is marked as transparency and set aside: if it is a band, name "
                "all with --bands, such as red,green,blue,nir",
            )
        dark = float((self._encoded(self._sample) < BELOW_ZERO).mean(where=np.isfinite(self._sample)))
        if dark > MANY_BELOW:
            notes += (
                f"{dark:.0%} of the reflectances are below {BELOW_ZERO:g}: if the file's offset is applied already, "
                "say so with --scale and --offset 0",
            )
        if not self._nodata_is_told:
            if self._band_nodata is not None:
                notes += ("the file declares no nodata: pixels that are 0 in all channels are not valid",)
            elif (black := float((np.nan_to_num(self._sample) == 0).all(axis=0).mean())) > 0:
                told = f"{black:.1%} of the pixels are 0 in all channels and count as black"
                notes += (f"{told}: if that is fill, --nodata 0",)
        return notes

    @cached_property
    def common_scale(self) -> float:
        """Of the sampled pixels."""
        return scale_of(self._encoded(self._sample))

    def reflectance(self, window: Tile) -> Planes:
        """Stored planes by the encoding."""
        return self._encoded(self._stored_planes(window))

    @cached_property
    def _channels(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        if "palette" in self._source.colours:
            raise RasterError(f"{self.name} is a palette picture, whose numbers are no colours: save it as RGB")
        if not self._bands and any(limits_of(self._source.units[index - 1]) for index in self._chosen):
            raise RasterError(f"{self.name} holds temperatures by its units, no bands of light: wanted reflectance")
        return channel_names(self._source, self._chosen, self._bands)

    @property
    def _nodata_is_told(self) -> bool:
        """Whether the user or the file says which pixels are nodata; of a picture none is."""
        declared = any(self._source.nodatavals[index - 1] is not None for index in self._chosen)
        return self._stored.nodata is not None or declared or self.kind == "picture"

    @property
    def _band_nodata(self) -> float | None:
        """The stored value of pixels that are not valid: 0 where nothing is told, but for 8 bits, where 0 is black."""
        guessed = not self._nodata_is_told and self._source.dtypes[self._chosen[0] - 1] != "uint8"
        return 0.0 if guessed else self._stored.nodata

    @cached_property
    def _encoding(self) -> Encoding:
        picture = self.kind == "picture"
        return encoding_of(
            self._source, self._chosen, self._sample, self._stored.scale, self._stored.offset, picture=picture
        )

    def _encoded(self, stored: Planes) -> Planes:
        return stored * np.float32(self._encoding.scale) + np.float32(self._encoding.offset)

    @cached_property
    def _sample(self) -> Planes:
        """Valid pixels (6, N) as stored."""
        return sample_planes(self._stored_planes, self.shape, self.name)

    def _stored_planes(self, window: Tile) -> Planes:
        """Planes (6, H, W) as the file declares them; NaN where a channel holds no measurement."""
        values = self._read(window, self._chosen, self._band_nodata)
        for channel, judge in zip(values, self._band_judges, strict=True):
            for reason, where in judge.faults(channel).items():
                channel[where] = np.nan
                self._faults.add(f"some pixels {reason}: not valid")
        return planes_of(values, self._channels[0])

    @cached_property
    def _band_judges(self) -> list[ValueJudge]:
        """A judge for each chosen channel; a picture has none, where all numbers are colours."""
        source, judges = self._source, []
        for channel in self._chosen:
            if self.kind == "picture" or self._trusted or source.dtypes[channel - 1] == "uint8":
                judges.append(TRUSTING)
                continue

            def physical(number: float, index: int = channel - 1) -> float:
                return float(np.float32(number * source.scales[index] + source.offsets[index]))

            def read(window: Tile, channel: int = channel) -> NDArray[np.float32]:
                return np.asarray(self._read(window, [channel], self._band_nodata)[0])

            judges.append(ValueJudge.of_light(some_values(read, self.shape), physical=physical))
        return judges

    def _read(self, window: Tile, channels: Sequence[int], nodata: float | None) -> NDArray[np.float32]:
        """Channels (C, H, W) of an upright window as declared; NaN where unknown, and where all hold ``nodata``."""
        source = self._source
        tile = window_in_file(window, self.shape, self._orientation)
        values = source.read(tile, bands=channels, alpha=not self._alpha_is_band).data
        if nodata is not None:
            factors, addends = (np.array(told)[np.array(channels) - 1] for told in (source.scales, source.offsets))
            nothing = (nodata * factors + addends).astype(np.float32)[:, None, None]
            values[:, (values == nothing).all(axis=0)] = np.nan
        return np.moveaxis(upright(np.moveaxis(values, 0, -1), self._orientation), -1, 0)
