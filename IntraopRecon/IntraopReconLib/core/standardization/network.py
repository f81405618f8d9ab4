"""The network standardizer: trained weights, their card, and how they are applied to an X-ray of any size."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.model_files import card_text, half_precision, load_model, read_card, save_model
from SparseAnatomyLib.resources import resource
from SparseAnatomyLib.work_device import WorkDevice, on_host

from .unet import PITCH_MM, STRIDE_PX, BoneNetwork

FORMAT, VERSION = "SparseAnatomy standardizer", 2
CARD_VERSION = 1
LARGEST_PX = 768  # no C-arm images more than that many times PITCH_MM; a wrong pitch does not fill the memory
ATTENUATION_RANGE = (-1.0, 9.2)  # beyond, a detector tells nothing


@dataclass(frozen=True)
class StandardizerCard:
    """What is known of trained weights; stands as `NAME.json` beside `NAME.pt`.

    Attributes:
        name: Such as "bone".
        trained_on: Sentences: CTs, patients, from where.
        licence: Of the weights, with the attribution that it asks for.
        sha256: Of the weights' file.
        seconds: How long the training took, CPU time.
        steps: Optimization steps.
        command: The command that trained them.
        settings: Of the training.
        inputs: SHA-256 of every CT, by its name.
        figures: Measured on patients that they, or weights trained alike, were not trained on.
    """

    name: str
    trained_on: str
    licence: str
    sha256: str
    seconds: float
    steps: int
    command: str
    settings: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    version: int = CARD_VERSION

    def to_json(self) -> str:
        """Return the file's text."""
        return card_text(self)


class NetworkStandardizer:
    """Applies a trained network.

    Args:
        network: In evaluation mode, on the CPU.
        card: What it is.
        device: Where it runs; the CPU by default.
    """

    name = "network"

    def __init__(self, network: BoneNetwork, card: StandardizerCard, device: WorkDevice | None = None) -> None:
        self.network, self.card, self.device = network.eval().to(memory_format=torch.channels_last), card, device
        self._copies = {"cpu": self.network}

    def on(self, device: WorkDevice) -> NetworkStandardizer:
        """Return the same that runs on a device, and on the CPU where that fails."""
        return NetworkStandardizer(self.network, self.card, device)

    @classmethod
    def load(cls, path: Path | None = None) -> NetworkStandardizer:
        """Load weights.

        Args:
            path: The `.pt` file, with its card beside it; the weights that ship by default.

        Raises:
            InputError: They are missing, damaged, tampered with or of another version.
        """
        path = Path(path) if path is not None else resource("Standardizer") / "bone.pt"
        card = read_card(path.with_suffix(".json"), StandardizerCard, "standardizer")
        content = load_model(path, card.sha256, "standardizer")
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise InputError(f"{path} is no standardizer.", "Choose a .pt file that intraop-recon train-standardizer wrote.")
        if content.get("version") != VERSION:
            message = f"The standardizer {path} is of version {content.get('version')}, this program reads {VERSION}."
            raise InputError(message, "Copy one of this version, or train it again.")
        try:
            network = BoneNetwork(*content["widths"])
            network.load_state_dict({name: value.float() for name, value in content["network"].items()})
        except (KeyError, RuntimeError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"The standardizer {path} is damaged.", "Copy it again, or train it again.") from error
        return cls(network, card)

    def save(self, path: Path) -> Path:
        """Write the weights, those of convolutions in half precision, and the card; each to a temporary name first."""
        weights = {name: value.detach().half() if value.ndim > 1 else value.detach() for name, value in self.network.state_dict().items()}
        content = {"format": FORMAT, "version": VERSION, "widths": self.network.widths, "network": weights}
        return save_model(content, self.card, path)

    def bone(self, attenuation: np.ndarray, mask: np.ndarray, pixel_mm: float) -> NDArray[np.float32]:
        """Return the attenuation of bone and metal alone; parameters and errors as `Standardizer.bone`."""
        if self.device is None:
            return self.bone_on("cpu", attenuation, mask, pixel_mm)
        return self.device.run(lambda where: self.bone_on(where, attenuation, mask, pixel_mm), "the X-rays were standardized")

    def bone_on(self, device: str, attenuation: np.ndarray, mask: np.ndarray, pixel_mm: float) -> NDArray[np.float32]:
        """Do so on a device of PyTorch."""
        attenuation, mask = np.asarray(attenuation, np.float32), np.asarray(mask, bool)
        if attenuation.shape != mask.shape:
            raise ValueError(f"attenuation and mask: expected one shape, got {list(attenuation.shape)} and {list(mask.shape)}.")
        known = torch.from_numpy(mask.astype(np.float32)).to(device)[None, None]
        image = torch.from_numpy(np.where(mask, np.clip(attenuation, *ATTENUATION_RANGE), 0).astype(np.float32)).to(device)[None, None]
        scale = min(pixel_mm / PITCH_MM, LARGEST_PX / max(mask.shape))
        shape = [max(1, round(length * scale)) for length in mask.shape]
        small_known = (_resized(known, shape) > 0.5).float()
        small = _resized(image, shape) / _resized(known, shape).clamp(min=0.5) * small_known
        network = self._network_on(device)
        padding = (0, -shape[1] % STRIDE_PX, 0, -shape[0] % STRIDE_PX)
        with torch.inference_mode(), half_precision(device):
            padded = [functional.pad(each, padding) for each in (small, small_known)]
            bone, gain, seen = (
                _resized(each[:, :, : shape[0], : shape[1]].float(), list(mask.shape)) for each in (*network(*padded), small)
            )
        bone = bone + gain * (image - seen)  # what is finer than the network's pixels passes as the detail around it does
        return np.where(mask, np.maximum(on_host(bone[0, 0]), 0), 0).astype(np.float32)

    def _network_on(self, device: str) -> BoneNetwork:
        """Return the network on a device; a card gets it once."""
        if device not in self._copies:
            self._copies[device] = copy.deepcopy(self.network).to(device)
        return self._copies[device]


def _resized(images: Tensor, shape: list[int]) -> Tensor:
    """Resize [n, 1, row, column]; what is made smaller is averaged."""
    if list(images.shape[2:]) == shape:
        return images
    return functional.interpolate(images, shape, mode="bilinear", antialias=True)
