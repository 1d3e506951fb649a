"""Detector in this process: ONNX Runtime on the CPU, the default when no RTDETR_URL is set.

It runs what lies in the models folder, best first:

- `rtdetrv2/model.onnx`: RT-DETRv2, in either of its two published forms. The deploy graph takes
  `images` (RGB, channels first, float32 from 0 to 1 or uint8) and `orig_target_sizes` (width,
  height) and gives `labels`, `boxes`, `scores`. The Hugging Face export takes `pixel_values` and
  gives `logits` and `pred_boxes`. Both look at the picture stretched to 640 x 640, no NMS.
- `ssdlite/model.onnx`: the offline fall-back, made by inference.ssdlite. It looks at the picture
  letterboxed to 300 x 300; boxes that overlap are thinned out whatever their class.

Both files come from `hsi models fetch`. The session is opened by the first call, and it runs one
picture at a time: on a CPU a batch of four is no faster, but keeps 70 MB more.
"""

import asyncio
import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from domain.errors import ServiceUnavailableError
from domain.events import Box
from inference import boxes
from inference.images import letterbox, square
from inference.ports import BOX_FLOOR, Detected, ModelIdentity, ModelRefusedError, Picture

RTDETR_FILE = Path("rtdetrv2") / "model.onnx"
SSDLITE_FILE = Path("ssdlite") / "model.onnx"
RTDETR_SIDE = 640
SSDLITE_SIDE = 300
OVERLAP = 0.5
"""Boxes of the fall-back that share more than this (intersection over union) are one object."""

_ORT_ERRORS = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)


class _Model(Protocol):
    """One kind of network: how it wants its pictures, how it says what it saw."""

    identity: ModelIdentity

    def run(self, picture: Picture) -> tuple[Box, ...]: ...


class EmbeddedDetector:
    """Detector over the weights in `models_dir`; one session, one thread that feeds it."""

    def __init__(
        self,
        models_dir: Path,
        *,
        threads: int = 1,
        max_batch: int = 4,
        allow_fallback: bool = True,
    ) -> None:
        self._models_dir = models_dir
        self._threads = threads
        self._max_batch = max_batch
        self._allow_fallback = allow_fallback
        self._model: _Model | None = None
        # A thread of its own: the default pool belongs to file and name look-ups.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="detector")

    @property
    def max_batch(self) -> int:
        return self._max_batch

    async def detect(self, pictures: list[Picture]) -> list[Detected]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self._detect, pictures)

    async def check(self) -> ModelIdentity:
        loop = asyncio.get_running_loop()
        return (await loop.run_in_executor(self._executor, self._loaded)).identity

    async def close(self) -> None:
        await asyncio.to_thread(self._executor.shutdown)
        self._model = None

    def _detect(self, pictures: list[Picture]) -> list[Detected]:
        model = self._loaded()
        return [self._detect_one(model, picture) for picture in pictures]

    @staticmethod
    def _detect_one(model: _Model, picture: Picture) -> Detected:
        began = time.perf_counter()
        try:
            found = model.run(picture)
        except _ORT_ERRORS as error:
            raise ModelRefusedError(f"the model failed on {picture.name}: {error}") from error
        return Detected(found, model.identity, round((time.perf_counter() - began) * 1000, 2))

    def _loaded(self) -> _Model:
        if self._model is None:
            self._model = self._load()
        return self._model

    def _load(self) -> _Model:
        primary = self._models_dir / RTDETR_FILE
        fallback = self._models_dir / SSDLITE_FILE
        if primary.is_file():
            return _RtDetr(_open_session(primary, self._threads), primary)
        if not self._allow_fallback:
            raise ServiceUnavailableError(
                "detector",
                f"there is no {primary}, and the fall-back detector is not allowed here: run "
                "`hsi models fetch detector` where a model hub can be reached, or set RTDETR_URL",
            )
        if fallback.is_file():
            return _SsdLite(_open_session(fallback, self._threads), fallback)
        raise ServiceUnavailableError(
            "detector",
            f"no detector lies in {self._models_dir}: run `hsi models fetch detector`",
        )


class _RtDetr:
    """RT-DETRv2, deploy graph or Hugging Face export."""

    def __init__(self, session: onnxruntime.InferenceSession, path: Path) -> None:
        self._session = session
        self._inputs = {entry.name: entry for entry in session.get_inputs()}
        outputs = {entry.name for entry in session.get_outputs()}
        self._deploy = {"labels", "boxes", "scores"} <= outputs
        if not self._deploy and not {"logits", "pred_boxes"} <= outputs:
            raise _unfit(path, outputs)
        self._images = "images" if self._deploy else "pixel_values"
        if self._images not in self._inputs:
            raise _unfit(path, set(self._inputs))
        self.identity = _identity(session, path, "rtdetrv2", fallback=False)

    def run(self, picture: Picture) -> tuple[Box, ...]:
        image = np.ascontiguousarray(square(picture, RTDETR_SIDE).transpose(2, 0, 1))
        feeds: dict[str, NDArray[Any]] = {self._images: image[np.newaxis]}
        if self._inputs[self._images].type == "tensor(float)":
            feeds[self._images] = feeds[self._images].astype(np.float32) / np.float32(255)
        width, height = picture.width, picture.height
        if self._deploy:
            feeds["orig_target_sizes"] = np.array([[width, height]], np.int64)
            outputs = self._session.run(["labels", "boxes", "scores"], feeds)
            labels, corners, scores = (rows[0] for rows in outputs)
        else:
            logits, centred = self._session.run(["logits", "pred_boxes"], feeds)
            labels, corners, scores = rows_of_queries(
                logits[0], centred[0], width=width, height=height
            )
        return boxes.to_boxes(labels, corners, scores, width=width, height=height)


class _SsdLite:
    """The offline fall-back, SSDLite-MobileNetV2."""

    def __init__(self, session: onnxruntime.InferenceSession, path: Path) -> None:
        outputs = {entry.name for entry in session.get_outputs()}
        if not {"boxes", "scores"} <= outputs:
            raise _unfit(path, outputs)
        self._session = session
        self.identity = _identity(session, path, "ssdlite-mobilenetv2", fallback=True)

    def run(self, picture: Picture) -> tuple[Box, ...]:
        boxed = letterbox(picture.rgb, SSDLITE_SIDE)
        feeds = {"images": boxed[np.newaxis]}
        (corners,), (scores,) = self._session.run(["boxes", "scores"], feeds)
        labels, best = scores.argmax(axis=1), scores.max(axis=1)
        rows = np.flatnonzero(best > BOX_FLOOR)
        rows = rows[boxes.keep_best(corners[rows], best[rows], OVERLAP)]
        # The square's side is as long as the picture's longer side.
        in_pixels = corners[rows] * max(picture.width, picture.height)
        return boxes.to_boxes(
            labels[rows], in_pixels, best[rows], width=picture.width, height=picture.height
        )


def rows_of_queries(
    logits: NDArray[np.float32], centred: NDArray[np.float32], *, width: int, height: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Do what RT-DETR's deploy graph does after the network: the best 300 of (query, class).

    Returns labels, corners in pixels and scores, as the deploy graph does.
    """
    classes = logits.shape[1]
    flat = 1 / (1 + np.exp(-logits.reshape(-1).astype(np.float64)))
    best = np.argsort(-flat, kind="stable")[: boxes.MOST_BOXES]
    chosen = centred[best // classes]
    middle, half = chosen[:, :2], chosen[:, 2:] / 2
    corners = np.concatenate([middle - half, middle + half], axis=1)
    return best % classes, corners * np.array([width, height, width, height]), flat[best]


def _open_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads that spin between pictures would burn the cores that everything else needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except _ORT_ERRORS as error:
        raise ServiceUnavailableError(
            "detector",
            f"{path} does not load as a model: {error}; delete it and run "
            "`hsi models fetch detector`",
        ) from error


def _identity(
    session: onnxruntime.InferenceSession, path: Path, name: str, *, fallback: bool
) -> ModelIdentity:
    """Read name and version out of the file; a file without them is known by its checksum."""
    meta = session.get_modelmeta().custom_metadata_map
    version = meta.get("version")
    if version is None:
        with path.open("rb") as file:
            version = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()[:16]
    return ModelIdentity(meta.get("name", name), version, "embedded", fallback)


def _unfit(path: Path, names: set[str]) -> ServiceUnavailableError:
    return ServiceUnavailableError(
        "detector",
        f"{path} is not a detector we know: it has {sorted(names)}; run "
        "`hsi models fetch detector`, or export RT-DETRv2's deploy graph",
    )
