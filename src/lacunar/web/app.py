"""The HTTP API, under ``/api/v1``, and the page that uses it."""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import anyio.to_thread
import numpy as np
from fastapi import APIRouter, FastAPI, HTTPException, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles

from lacunar import __version__, models
from lacunar.diffusion.samplers import PRESETS
from lacunar.errors import LacunarError
from lacunar.geo.windows import Tile
from lacunar.web import views
from lacunar.web.asked import MODELS_OF, JobAsked, RasterAsked, ZoneAsked, check_job, command_of, needs_mask
from lacunar.web.jobs import Jobs, QueueFullError
from lacunar.web.masks import SUSPECTS, Edits, Mask
from lacunar.web.regions import lakes_of, zone_of
from lacunar.web.security import API
from lacunar.web.store import ACTIVE, JOB, RASTER, NotFoundError, Store, read_json, safe_name, write_json

STATIC = Path(__file__).parent / "static"
UPLOAD_BYTES = 4 * 2**30
MASK_BYTES = 2**28
LOOK_EVERY = 0.25  # seconds between two looks at a job whose events are sent
MASK_BAND, SUSPECT_BAND = "mask", "suspect"
KEEP_TILES = {"Cache-Control": "private, max-age=3600"}


class Service:
    """What the routes share: the state folder, the queue, and how large an upload may be."""

    def __init__(
        self, store: Store, *, upload_bytes: int = UPLOAD_BYTES, help_of: Callable[[str], str | None] | None = None
    ) -> None:
        self.store, self.jobs, self.upload_bytes = store, Jobs(store), upload_bytes
        self.help_of = help_of or (lambda _: None)  # the page of a command's options, as HTML
        self.ending = False  # streams of events end then
        shipped = Path(models.__path__[0]) / "shipped"
        cards = {path.parent.name: read_json(path) or {} for path in sorted(shipped.glob("*/card.json"))}
        self.models = {name: {"name": name, **card} for name, card in cards.items()}

    def raster(self, identifier: str) -> dict[str, Any]:
        """What is known of a raster, and how its opening stands."""
        folder = self.store.path(identifier, RASTER)
        known = read_json(folder / "raster.json") or {}
        view = read_json(folder / "view.json")
        told = {"id": identifier, "name": known.get("name", ""), "job": known.get("job")}
        if view is not None:
            return {
                **told,
                **view,
                "state": "ready",
                "source": known["source"],
                "can_be_reference": "fill" in view["jobs"],
            }
        try:
            job = self.jobs.status(str(known.get("job")))
        except NotFoundError:
            return {**told, "state": "failed", "error": "it was not opened to the end: open it again"}
        state = "opening" if job["state"] in (*ACTIVE, "done") else "failed"
        return {**told, "state": state, "error": job["error"], "done": job["done"], "total": job["total"]}

    def opened(self, identifier: str) -> tuple[Path, dict[str, Any]]:
        """The folder of a raster that is open, and what is known of it; also of a result, by its job."""
        if identifier.startswith(JOB):
            job = self.jobs.status(identifier)
            if "view" not in job:
                raise NotFoundError(f"job {identifier} has no raster to draw: it is {job['state']}")
            return self.store.path(identifier, JOB) / "results", job["view"]
        info = self.raster(identifier)
        if info["state"] != "ready":
            raise LacunarError(info.get("error") or f"{info['name']} is still being opened: wait for its job")
        return self.store.path(identifier, RASTER), info

    def mask(self, identifier: str) -> Mask:
        """The mask of a raster that is open."""
        return Mask(*self.opened(self.store.path(identifier, RASTER).name))

    def open(self, folder: Path, known: dict[str, Any]) -> dict[str, Any]:
        """Queue the opening of a raster; an uploaded or demo file lies in the folder's ``input``."""
        root = None if self.store.root is None else str(self.store.root)
        write_json(folder / "raster.json", {**known, "root": root})
        job = self.jobs.submit({"kind": "open", "raster": folder.name, "name": known["name"], "references": []})
        write_json(folder / "raster.json", {**known, "root": root, "job": job["id"]})
        return self.raster(folder.name)

    def open_band(self, identifier: str, band: int | None) -> dict[str, Any]:
        """Open another band of an opened raster, as a raster of its own; an uploaded file is shared by a link."""
        there, info = self.opened(self.store.path(identifier, RASTER).name)
        source, folder = Path(info["source"]), self.store.new(RASTER)
        if source.is_relative_to(there):
            shutil.copytree(there / "input", folder / "input", copy_function=os.link)
            source = folder / source.relative_to(there)
        return self.open(folder, {"name": info["name"], "source": str(source), "band": band})

    def search_suspects(self, identifier: str) -> dict[str, Any]:
        """Queue a search for cloud that the mask does not name; what was accepted or refused before is forgotten."""
        mask = self.mask(identifier)
        if "fill" not in self.raster(identifier)["jobs"]:
            raise LacunarError("cloud is looked for in values in kelvin: wanted a product, or a raster of them")
        edits = mask.edits().model_copy(update={"accepted": [], "refused": []})
        mask.save(edits)
        told = {"kind": "suspects", "raster": identifier, "name": identifier, "references": []}
        return self.jobs.submit({**told, "edits": edits.model_dump()})

    def prepared(self, asked: JobAsked) -> dict[str, Any]:
        """A job, checked, as the queue takes it."""
        _, info = self.opened(self.store.path(asked.raster, RASTER).name)
        check_job(asked, info, self.models)
        references = [self.opened(self.store.path(one, RASTER).name)[1] for one in asked.references]
        mask = self.mask(asked.raster)
        edits = mask.edits()
        return {
            "kind": asked.kind,
            "raster": asked.raster,
            "name": info["name"],
            "references": asked.references,
            "window": asked.window,
            "options": asked.options(info["kind"]),
            "edits": edits.model_dump(),
            "has_mask": needs_mask(asked.kind, edits, info),
            "command": command_of(asked, info, edits, mask.file_name, references),
        }


async def receive(request: Request, path: Path, most: int) -> None:
    """Write the body of a request to a file; more than ``most`` bytes is refused, and nothing is left."""
    count = 0
    try:
        with path.open("wb") as file:
            async for chunk in request.stream():
                count += len(chunk)
                if count > most:
                    raise HTTPException(413, f"more than {most:,} bytes: put the file under --root and pick it there")
                await anyio.to_thread.run_sync(file.write, chunk)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    if count == 0:
        path.unlink(missing_ok=True)
        raise HTTPException(422, "the file is empty: wanted its bytes as the body of the request")


def general_routes(service: Service) -> APIRouter:
    """What the server is and has."""
    router = APIRouter(tags=["server"])

    @router.get("/health")
    def health() -> dict[str, Any]:
        """Tell whether the server is there, its version, and whether it shows a folder."""
        return {"status": "ok", "version": __version__, "shows_folder": service.store.root is not None}

    @router.get("/models")
    def list_models() -> list[dict[str, Any]]:
        """List the shipped models, with the kind of job that each is for."""
        told = ("name", "summary", "licence")
        kinds = {prefix: kind for kind, prefix in MODELS_OF.items()}
        return [
            {key: model.get(key, "") for key in told} | {"kind": kind}
            for name, model in service.models.items()
            for prefix, kind in kinds.items()
            if name.startswith(prefix)
        ]

    @router.get("/presets")
    def list_presets() -> list[dict[str, Any]]:
        """List the presets, with the evaluations of the network that each sample takes."""
        return [
            {"name": name, "evaluations": one.evaluations, "samples": one.usual_samples, "mean_only": one.mean_only}
            for name, one in PRESETS.items()
        ]

    @router.get("/files")
    def list_files(under: str = Query(default="", max_length=4096)) -> dict[str, Any]:
        """List files and folders under the folder of ``--root``."""
        return service.store.listing(under)

    return router


def raster_routes(service: Service) -> APIRouter:
    """Rasters: open, look at, measure."""
    router = APIRouter(tags=["rasters"])

    @router.get("/rasters")
    def list_rasters() -> list[dict[str, Any]]:
        """List what is open, the newest first."""
        return [service.raster(folder.name) for folder in reversed(service.store.folders(RASTER))]

    @router.post("/rasters", status_code=202)
    def open_raster(asked: RasterAsked) -> dict[str, Any]:
        """Open a path under ``--root``, a demo, or another band; it can be drawn once its ``state`` is ``ready``."""
        if sum(what is not None for what in (asked.path, asked.demo, asked.raster)) != 1:
            raise LacunarError("wanted a path, a demo or a raster, one of the three")
        if asked.raster:
            return service.open_band(asked.raster, asked.band)
        if asked.demo:
            known: dict[str, Any] = {"name": f"demo: {asked.demo}", "demo": asked.demo}
        else:
            path = service.store.inside_root(str(asked.path))
            known = {"name": path.name, "source": str(path), "band": asked.band}
        return service.open(service.store.new(RASTER), known)

    @router.post("/uploads", status_code=202)
    async def upload(request: Request, name: str = Query(max_length=255)) -> dict[str, Any]:
        """Open a file that is the body of the request (``application/octet-stream``); of a product its .tar."""
        folder = service.store.new(RASTER)
        try:
            (folder / "input").mkdir()
            path = folder / "input" / safe_name(name)
            await receive(request, path, service.upload_bytes)
            return await anyio.to_thread.run_sync(service.open, folder, {"name": path.name, "source": str(path)})
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    @router.get("/rasters/{identifier}")
    def get_raster(identifier: str) -> dict[str, Any]:
        """Tell all that drawing a raster takes: size, bands, levels, position, ranges; also of a result, by its job."""
        if identifier.startswith(JOB):
            return service.opened(identifier)[1]
        return service.raster(identifier)

    @router.delete("/rasters/{identifier}", status_code=204)
    def close_raster(identifier: str) -> None:
        """Forget a raster; the file under ``--root`` stays."""
        folder = service.store.path(identifier, RASTER)
        for job in service.jobs.all():
            if job["state"] in ACTIVE and identifier in (job["raster"], *job["references"]):
                raise LacunarError(f"a job works on {job['name']}: cancel it first")
        shutil.rmtree(folder)

    @router.get("/rasters/{identifier}/tiles/{z}/{x}/{y}", response_class=Response)
    def get_tile(identifier: str, z: int, x: int, y: int, bands: str = Query(max_length=200)) -> Response:
        """Give raw float32 (little endian) of the bands named by comma, 256 x 256 each, NaN where there is nothing.

        z is 0 for the coarsest level; ``mask`` is a band too (1 = to be filled), and ``suspect`` (numbers of places).
        """
        folder, info = service.opened(identifier)
        window, step = views.tile_window(info, z, x, y)
        names = bands.split(",")
        read = [name for name in names if name not in (MASK_BAND, SUSPECT_BAND)]
        if unknown := [name for name in read if name not in info["bands"]]:
            raise LacunarError(f"no band {unknown[0]!r}: wanted some of {', '.join(info['bands'])}, {MASK_BAND}")
        planes = dict.fromkeys(names, np.empty(0, dtype=np.float32))
        if read:
            numbers = [info["bands"].index(name) + 1 for name in read]
            planes |= dict(zip(read, views.read_window(folder / info["file"], numbers, window, step), strict=True))
        if SUSPECT_BAND in names:
            planes[SUSPECT_BAND] = views.read_window(folder / SUSPECTS, [1], window, step)[0]
        if MASK_BAND in names:
            mask = service.mask(identifier)
            planes[MASK_BAND] = mask.window(mask.edits(), window, step).astype(np.float32)
        content = np.stack([planes[name] for name in names]).astype("<f4").tobytes()
        changes = MASK_BAND in names or SUSPECT_BAND in names
        headers = {"Cache-Control": "no-store"} if changes else KEEP_TILES
        return Response(content, media_type="application/octet-stream", headers=headers)

    @router.get("/rasters/{identifier}/point")
    def get_point(identifier: str, row: int = Query(ge=0), col: int = Query(ge=0)) -> dict[str, Any]:
        """Give the values of all bands at a pixel, with longitude and latitude where there is a CRS."""
        folder, info = service.opened(identifier)
        if row >= info["shape"][0] or col >= info["shape"][1]:
            raise LacunarError(f"row {row}, column {col}: wanted a pixel of {info['shape'][0]} x {info['shape'][1]}")
        numbers = range(1, len(info["bands"]) + 1)
        values = views.read_window(folder / info["file"], numbers, Tile(row, col, 1, 1))[:, 0, 0]
        bands = {name: float(v) if np.isfinite(v) else None for name, v in zip(info["bands"], values, strict=True)}
        return {"row": row, "col": col, "lonlat": views.lonlat(info, row, col), "bands": bands}

    @router.post("/rasters/{identifier}/zonal")
    def get_zone(identifier: str, asked: ZoneAsked) -> dict[str, Any]:
        """Give mean, sigma and filled share of a polygon on a filled raster whose samples were kept."""
        return zone_of(*service.opened(identifier), asked.polygon)

    @router.get("/rasters/{identifier}/lakes")
    def get_lakes(identifier: str, threshold: float = Query(gt=0, lt=1)) -> dict[str, Any]:
        """Give the water bodies of a map of water at a threshold of the probability, the largest first."""
        return lakes_of(*service.opened(identifier), threshold)

    return router


def mask_routes(service: Service) -> APIRouter:
    """What is missing."""
    router = APIRouter(tags=["masks"])

    def told(mask: Mask, edits: Edits) -> dict[str, Any]:
        share, exact = mask.share(edits)
        return {"edits": edits.model_dump(), "share": share, "exact": exact}

    @router.get("/rasters/{identifier}/mask/edits")
    def get_edits(identifier: str) -> dict[str, Any]:
        """Give the edits of a mask, and the share of the image that they name."""
        mask = service.mask(identifier)
        return told(mask, mask.edits())

    @router.put("/rasters/{identifier}/mask")
    def put_mask(identifier: str, edits: Edits) -> dict[str, Any]:
        """Replace the edits of a mask."""
        mask = service.mask(identifier)
        mask.save(edits)
        return told(mask, edits)

    @router.post("/rasters/{identifier}/mask")
    async def import_mask(request: Request, identifier: str, name: str = Query(max_length=255)) -> dict[str, Any]:
        """Import a mask that is the body of the request: a raster on the grid, non-zero = to be filled."""
        mask = await anyio.to_thread.run_sync(service.mask, identifier)
        path = service.store.path(identifier, RASTER) / f"upload_{safe_name(name)}"
        try:
            await receive(request, path, MASK_BYTES)
            edits = await anyio.to_thread.run_sync(mask.take, path)
        finally:
            path.unlink(missing_ok=True)
        return await anyio.to_thread.run_sync(told, mask, edits)

    @router.post("/rasters/{identifier}/suspects", status_code=202)
    def search_suspects(identifier: str) -> dict[str, Any]:
        """Look for places that look like cloud and are not in the mask; the answer is the job that does it."""
        return service.search_suspects(service.store.path(identifier, RASTER).name)

    @router.get("/rasters/{identifier}/suspects")
    def get_suspects(identifier: str) -> dict[str, Any]:
        """Give the places that were found: number, pixels, kelvin below their surroundings, box; null if never looked.

        Accept or refuse them by their numbers, in ``accepted`` and ``refused`` of the mask's edits.
        """
        folder = service.store.path(identifier, RASTER)
        return read_json(folder / "suspects.json") or {"places": None}

    @router.get("/rasters/{identifier}/mask", response_class=FileResponse)
    def get_mask(identifier: str) -> FileResponse:
        """Give the whole mask as a file: GeoTIFF on the grid, 1 = to be filled; of a picture PNG, white."""
        mask = service.mask(identifier)
        path = service.store.path(identifier, RASTER) / f"saved_{mask.file_name}"
        mask.write(mask.edits(), path)
        return FileResponse(path, filename=mask.file_name, media_type="application/octet-stream")

    return router


def job_routes(service: Service) -> APIRouter:
    """Jobs: run, watch, stop, fetch."""
    router = APIRouter(tags=["jobs"])
    jobs = service.jobs

    @router.post("/command")
    def get_command(asked: JobAsked) -> dict[str, str]:
        """Give the command line that does the same as a job."""
        return {"command": service.prepared(asked)["command"]}

    @router.post("/jobs", status_code=202)
    def submit(asked: JobAsked) -> dict[str, Any]:
        """Queue a job; with a window it is a preview."""
        return jobs.submit(service.prepared(asked))

    @router.get("/jobs")
    def list_jobs() -> list[dict[str, Any]]:
        """List all jobs, the newest first."""
        return jobs.all()

    @router.get("/jobs/{identifier}")
    def get_job(identifier: str) -> dict[str, Any]:
        """Tell how a job stands: its state, what is done, and its results."""
        return jobs.status(identifier)

    @router.get("/jobs/{identifier}/events", response_class=StreamingResponse)
    async def get_events(identifier: str) -> StreamingResponse:
        """Send how a job stands whenever that changes (server-sent events), until it ends."""
        jobs.status(identifier)
        return StreamingResponse(
            events(identifier), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )

    async def events(identifier: str) -> AsyncIterator[str]:
        before = ""
        while True:
            try:
                job = await anyio.to_thread.run_sync(jobs.status, identifier)
            except NotFoundError:
                return
            said = json.dumps(job, default=str)
            if said != before:
                yield f"data: {said}\n\n"
            if job["state"] not in ACTIVE or service.ending:
                return
            before = said
            await asyncio.sleep(LOOK_EVERY)

    @router.delete("/jobs/{identifier}")
    def cancel(identifier: str) -> dict[str, Any]:
        """Cancel a job that waits or runs; delete one that has ended, with its results."""
        job = jobs.status(identifier)
        if job["state"] in ACTIVE:
            return jobs.cancel(identifier)
        jobs.forget(identifier)
        shutil.rmtree(service.store.path(identifier, JOB), ignore_errors=True)
        return job

    @router.post("/jobs/{identifier}/resume", status_code=202)
    def resume(identifier: str) -> dict[str, Any]:
        """Queue a job again that was cancelled or failed: a fill goes on from its finished blocks."""
        return jobs.resume(identifier)

    @router.get("/jobs/{identifier}/results/{name}", response_class=FileResponse)
    def get_result(identifier: str, name: str) -> FileResponse:
        """Give a file of a job that is done, as an attachment."""
        if jobs.status(identifier)["state"] != "done" or name not in {one["name"] for one in jobs.results(identifier)}:
            raise NotFoundError(f"job {identifier} has no result {name[:50]!r}: its `results` list them")
        path = service.store.path(identifier, JOB) / "results" / name
        kind = "image/png" if path.suffix == ".png" else "application/octet-stream"
        return FileResponse(path, filename=name, media_type=kind)

    return router


def make_app(service: Service) -> FastAPI:
    """The app, not yet guarded; the queue works while it is up."""

    @asynccontextmanager
    async def working(_: FastAPI) -> AsyncIterator[None]:
        service.jobs.start()
        yield
        await anyio.to_thread.run_sync(service.jobs.stop)

    app = FastAPI(
        title="lacunar",
        version=__version__,
        openapi_url=f"{API}/openapi.json",
        docs_url=None,  # that page would load scripts from elsewhere
        redoc_url=None,
        lifespan=working,
    )
    for routes in (general_routes, raster_routes, mask_routes, job_routes):
        app.include_router(routes(service), prefix=API)

    async def refuse(_: Request, error: Exception) -> JSONResponse:
        code = 404 if isinstance(error, NotFoundError) else 429 if isinstance(error, QueueFullError) else 422
        return JSONResponse({"detail": str(error)}, code)

    async def full(_: Request, error: Exception) -> JSONResponse:
        said = cast(OSError, error).strerror or str(error)
        return JSONResponse({"detail": f"the disk refuses ({said}): free some space"}, 507)

    app.add_exception_handler(LacunarError, refuse)
    app.add_exception_handler(OSError, full)

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-store"})

    @app.get("/help/{command}", include_in_schema=False)
    def help_page(command: str) -> HTMLResponse:
        """Tell every option of a command: what the page links to."""
        told = service.help_of(command)
        if told is None:
            raise NotFoundError(f"no command {command[:20]!r} has a page of options")
        return HTMLResponse(told)

    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return app
