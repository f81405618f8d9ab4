"""Whose images a result was made from: patient and study from the X-rays' own tags, or nobody's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import generate_uid

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.provenance import sha256

from .case import POSES_FILE
from .result_folder import read_report
from .xrays.dicom_writer import ANONYMOUS

PATIENT = ("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex")  # PS3.3 C.7.1.1
STUDY = (
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyDescription",
)  # C.7.2.1
_REFERENCE = ("SOPClassUID", "SOPInstanceUID")


@dataclass(frozen=True)
class Identity:
    """Whose images these are.

    Attributes:
        patient: Values of the Patient and General Study modules by keyword.
        is_anonymous: Whether nobody is named.
        frame_of_reference_uid: The same for all results of the same poses: their coordinates are the same.
        sources: SOP Class UID and SOP Instance UID of each X-ray file; none where nobody is named.
    """

    patient: Mapping[str, str] = field(default_factory=dict)
    is_anonymous: bool = True
    frame_of_reference_uid: str = ""
    sources: tuple[tuple[str, str], ...] = ()


def identity_of_result(result: Path | None, case: Path | None = None) -> Identity:
    """Return whose X-rays a result was made from.

    The X-rays are looked for in `case`, or else in the folder that the result lies in, and count only where they are those that the report
    names, by their hashes. Where they are not found, or name no patient, the identity is anonymous.

    Args:
        result: Result folder; None where there is none any more.
        case: Case folder.

    Raises:
        InputError: The X-rays in `case` are not those of the result, or they are of several patients.
    """
    if result is None:
        return anonymous("")
    result = Path(result)
    hashes = read_report(result).get("inputs_sha256")
    hashes = {str(name): str(value) for name, value in hashes.items()} if isinstance(hashes, dict) else {}
    key = json.dumps(hashes, sort_keys=True)
    frame_uid = generate_uid(entropy_srcs=["frame of reference", hashes.get(POSES_FILE, key)])
    folder = Path(case) if case is not None else result.absolute().parent
    images = [name for name in hashes if name.lower().endswith(".dcm") or name.startswith("xrays/")]
    if not images or not all(_is_same(folder, name, hashes[name]) for name in images):
        if case is not None:
            raise InputError(f"The X-rays in {folder} are not those that {result} was made from.", "Choose the case folder of this result.")
        return anonymous(key, frame_uid)
    found = [_tags(folder / name) for name in images]
    return _joined(found, folder, anonymous(key, frame_uid))


def is_case_of(result: Path, case: Path) -> bool:
    """Return whether a folder holds the X-rays that a result was made from."""
    hashes = read_report(result).get("inputs_sha256")
    return isinstance(hashes, dict) and all(_is_same(Path(case), str(name), str(value)) for name, value in hashes.items())


def anonymous(key: str, frame_uid: str = "") -> Identity:
    """Return an identity that names nobody.

    Args:
        key: What tells this case from every other; the same key gives the same patient and study.
        frame_uid: Frame of Reference UID; of the key if empty.
    """
    patient = dict.fromkeys((*PATIENT, *STUDY), "")
    patient |= {"PatientName": "Anonymous", "PatientID": f"ANON-{hashlib.sha256(key.encode()).hexdigest()[:8].upper()}"}
    patient["StudyInstanceUID"] = generate_uid(entropy_srcs=["study", key])
    return Identity(patient, True, frame_uid or generate_uid(entropy_srcs=["frame of reference", key]))


def _joined(found: list[Dataset], folder: Path, nobody: Identity) -> Identity:
    """Return the patient of all X-rays, and their study where it is one."""
    patients = {(str(tags.get("PatientID", "")), str(tags.get("PatientName", ""))) for tags in found}
    if len(patients) > 1:
        raise InputError(f"The X-rays in {folder} name {len(patients)} patients.", "Export without them, or take out those of others.")
    if patients <= {("", ""), ANONYMOUS[::-1]}:
        return nobody
    values = {**nobody.patient, **{name: _text(found[0], name) for name in PATIENT}}
    studies = {str(tags.get("StudyInstanceUID", "")) for tags in found}
    if len(studies) == 1 and studies != {""}:
        values |= {name: _text(found[0], name) for name in STUDY}
    known = [tags for tags in found if all(name in tags for name in _REFERENCE)]
    sources = dict.fromkeys((str(tags.SOPClassUID), str(tags.SOPInstanceUID)) for tags in known)
    return Identity(values, False, nobody.frame_of_reference_uid, tuple(sources))


def _text(tags: Dataset, name: str) -> str:
    value: Any = tags.get(name)
    return "" if value is None else str(value)


def _is_same(folder: Path, name: str, digest: str) -> bool:
    try:
        return sha256(folder / name) == digest
    except OSError:
        return False


def _tags(path: Path) -> Dataset:
    try:
        return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=[*PATIENT, *STUDY, *_REFERENCE, "SpecificCharacterSet"])
    except (OSError, InvalidDicomError, ValueError, AttributeError) as error:
        raise InputError(f"{path} cannot be read as DICOM.", "Export the X-ray again, or export the result without its case.") from error
