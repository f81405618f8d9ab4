"""Whether the files of a volume are whole: ITK fills what is missing, and passes over what is damaged, without a word."""

from __future__ import annotations

import bz2
import gzip
import io
import math
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from .errors import InputError

SUFFIXES = (".nrrd", ".nii", ".nii.gz", ".mha", ".mhd")  # that a folder of volumes is searched for
_ENDINGS = (".seg.nrrd", ".nii.gz", *SUFFIXES)
_NIFTI_HEADER_BYTES = 348
_LARGEST_HEADER_BYTES = 1 << 26
_BLOCK_BYTES = 1 << 22
_GIVE_COMPLETE = "Give a complete volume file, such as .nrrd or .nii.gz."
EXPORT_SPACING = "Export the volume again with its true voxel spacing."


def unreadable(path: Path) -> InputError:
    """Return the error of a file that is damaged or no volume."""
    return InputError(f"{path} cannot be read as an image.", _GIVE_COMPLETE)


def check_whole(path: Path) -> None:
    """Refuse a volume whose file is truncated or whose compressed voxels do not agree with their checksum.

    Formats other than NIfTI, Analyze, NRRD and MetaImage, and what these leave to ITK's own care, pass.

    Raises:
        InputError: It is damaged, or a NIfTI file has no spacing.
    """
    check = next((check for suffix, check in _CHECKS.items() if path.name.lower().endswith(suffix)), None)
    if check is None:
        return
    try:
        check(path)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise unreadable(path) from error


def name_of(path: Path) -> str:
    """Return a volume file's name without its ending; dots before it are part of the name, as in identifiers and dates."""
    return path.name.removesuffix(next((ending for ending in _ENDINGS if path.name.endswith(ending)), ""))


def voxel_file(path: Path) -> Path | None:
    """Return the other file of a volume in two, such as that of the voxels for a header; None where all is in one file."""
    name = path.name.lower()
    try:
        if name.endswith((".nrrd", ".nhdr")):
            fields, _ = _nrrd_header(path)
            other = fields.get("data file") or fields.get("datafile")
        elif name.endswith((".mha", ".mhd")):
            fields, _ = _metaimage_header(path)
            other = fields.get("elementdatafile")
            other = None if other in ("LOCAL", "Local", "local") else other
        else:
            other = {".hdr": f"{path.stem}.img", ".img": f"{path.stem}.hdr"}.get(path.suffix.lower())
    except (OSError, ValueError):
        return None
    return path.parent / other if other and (path.parent / other).is_file() else None  # not so with lists of files


def _check_nifti(path: Path) -> None:
    """Source: NIfTI-1 header, https://nifti.nimh.nih.gov/nifti-1 (dim at byte 40, bitpix 72, pixdim 76, vox_offset 108)."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
        header = stream.read(_NIFTI_HEADER_BYTES)
        length = len(header) + _length(stream)
    if len(header) < _NIFTI_HEADER_BYTES:
        raise EOFError
    order = next((order for order in "<>" if struct.unpack_from(f"{order}i", header)[0] == _NIFTI_HEADER_BYTES), None)
    if order is None:
        return  # NIfTI-2 or no NIfTI: for ITK to judge
    dimensions = struct.unpack_from(f"{order}8h", header, 40)
    axes = min(max(dimensions[0], 0), 7)
    bits = struct.unpack_from(f"{order}h", header, 72)[0]
    start = struct.unpack_from(f"{order}f", header, 108)[0]
    needed = math.prod(max(size, 1) for size in dimensions[1 : axes + 1]) * bits / 8
    voxels = voxel_file(path)
    if header[344:347] == b"n+1":
        needed += start
    elif voxels is not None:
        length = voxels.stat().st_size
    else:
        return
    if not (math.isfinite(needed) and length >= needed):
        raise EOFError
    spacing = struct.unpack_from(f"{order}3f", header, 80)[: min(axes, 3)]
    if not all(math.isfinite(value) and value != 0 for value in spacing):
        raise InputError(f"{path} has a voxel spacing that is not a number above zero.", EXPORT_SPACING)


def _check_nrrd(path: Path) -> None:
    """Source: https://teem.sourceforge.net/nrrd/format.html."""
    fields, start = _nrrd_header(path)
    unpack = {"gz": gzip.open, "gzip": gzip.open, "bz2": bz2.open, "bzip2": bz2.open}.get(fields.get("encoding", "").lower())
    detached = "data file" in fields or "datafile" in fields
    file = voxel_file(path) if detached else path
    if unpack is None or file is None or int(fields.get("line skip", 0)):
        return
    with file.open("rb") as stream:
        stream.seek(0 if detached else start)
        _length(unpack(stream))


def _check_metaimage(path: Path) -> None:
    """Source: https://itk.org/Wiki/MetaIO/Documentation."""
    fields, start = _metaimage_header(path)
    if fields.get("compresseddata", "").lower() != "true":
        return
    file = voxel_file(path)
    with (file or path).open("rb") as stream:
        stream.seek(0 if file else start)
        unpack = zlib.decompressobj(zlib.MAX_WBITS | 32)  # zlib's own header, or gzip's
        while not unpack.eof:
            block = stream.read(_BLOCK_BYTES)
            if not block:
                raise EOFError
            unpack.decompress(block)


def _nrrd_header(path: Path) -> tuple[dict[str, str], int]:
    """Return the fields, by name in lower case, and where the voxels start."""
    return _header(path, re.compile(rb"([^:#=]+): (.*)"), lambda line: not line)


def _metaimage_header(path: Path) -> tuple[dict[str, str], int]:
    """Return the fields, by name in lower case, and where the voxels start."""
    return _header(path, re.compile(rb"([^=]+?)\s*=\s*(.*)"), lambda line: line.lower().startswith(b"elementdatafile"))


def _header(path: Path, pattern: re.Pattern[bytes], is_last: Callable[[bytes], bool]) -> tuple[dict[str, str], int]:
    fields = {}
    with path.open("rb") as stream:
        while stream.tell() < _LARGEST_HEADER_BYTES and (line := stream.readline(_LARGEST_HEADER_BYTES)):
            line = line.strip()
            if match := pattern.fullmatch(line):
                fields[match[1].decode("latin-1").lower()] = match[2].decode("utf-8", "replace").strip()
            if is_last(line):
                return fields, stream.tell()
    return fields, 0


def _length(stream: BinaryIO | io.BufferedIOBase) -> int:
    """Read a stream to its end, where what is compressed proves its checksum; return how many bytes that were."""
    length = 0
    while block := stream.read(_BLOCK_BYTES):
        length += len(block)
    return length


_CHECKS: dict[str, Callable[[Path], None]] = {
    ".nii": _check_nifti,
    ".nii.gz": _check_nifti,
    ".hdr": _check_nifti,
    ".nrrd": _check_nrrd,
    ".nhdr": _check_nrrd,
    ".mha": _check_metaimage,
    ".mhd": _check_metaimage,
}
