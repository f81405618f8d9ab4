"""A prior's file: whole or refused, never half there, and never code."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shape_toys import Toy, toy_prior

from ShapeCompletionLib.core.calibration import Temperature
from ShapeCompletionLib.core.cube import cube_view
from ShapeCompletionLib.core.predict import predict
from ShapeCompletionLib.core.prior import VERSION, load_prior, save_prior
from ShapeCompletionLib.core.prior_card import CARD_VERSION, PriorCard, available_priors, read_card
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.model_files import load_checkpoint, save_checkpoint

MOST_BYTES = 3 * 2**20


@pytest.fixture(scope="module")
def content(tmp_path_factory) -> tuple[bytes, bytes]:
    """Return what a prior's two files hold."""
    path = save_prior(toy_prior(temperature=Temperature(1.25, 0.5, 2.5), usual_evidence=0.75), tmp_path_factory.mktemp("prior") / "toy.pt")
    return path.read_bytes(), path.with_suffix(".json").read_bytes()


def put(folder, weights: bytes, card: bytes):
    path = folder / "toy.pt"
    path.write_bytes(weights)
    path.with_suffix(".json").write_bytes(card)
    return path


def put_data(folder, content: tuple[bytes, bytes], data):
    """Write other data under a card that vouches for them."""
    buffer = io.BytesIO()
    torch.save(data, buffer)
    return put_bytes(folder, content, buffer.getvalue())


def put_bytes(folder, content: tuple[bytes, bytes], weights: bytes):
    card = json.loads(content[1]) | {"sha256": hashlib.sha256(weights).hexdigest()}
    return put(folder, weights, json.dumps(card).encode())


def data_of(content: tuple[bytes, bytes]) -> dict:
    return torch.load(io.BytesIO(content[0]), weights_only=True)


def refused(path, words: str) -> None:
    """Expect one sentence that names the file and holds the words, with a remedy and exit code 2."""
    with pytest.raises(InputError, match=words) as caught:
        load_prior(path)
    assert caught.value.exit_code == 2 and caught.value.kind == "input"
    assert caught.value.message.endswith(".") and ". " not in caught.value.message.replace(str(path), "")
    assert caught.value.remedy.endswith(".") and path.stem in caught.value.message


def test_a_prior_comes_back_as_it_was(tmp_path):
    prior = toy_prior(temperature=Temperature(1.25, 0.5, 2.5), usual_evidence=0.75)
    with torch.no_grad():
        for value in prior.refine.parameters():
            value.copy_(value.half())
    path = save_prior(prior, tmp_path / "folder" / "toy.pt")
    assert sorted(file.name for file in path.parent.iterdir()) == ["toy.json", "toy.pt"]
    loaded = load_prior(path)
    assert loaded.temperature == prior.temperature and loaded.usual_evidence == prior.usual_evidence
    assert loaded.card.sha256 == hashlib.sha256(path.read_bytes()).hexdigest() and loaded.card.title == prior.card.title
    for name, value in prior.inr.items():
        torch.testing.assert_close(loaded.inr[name], value, rtol=0, atol=0)
    for name, value in prior.refine.state_dict().items():
        torch.testing.assert_close(loaded.refine.state_dict()[name], value, rtol=0, atol=0)
    assert not loaded.refine.training
    view = cube_view(Toy().slices(), 96.0)
    np.testing.assert_array_equal(predict(loaded, view).logits, predict(prior, view).logits)


def test_the_files_size_is_that_of_a_prior_that_ships(content):
    assert len(content[0]) <= MOST_BYTES


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_a_truncated_file_is_refused(tmp_path, content, share):
    refused(put(tmp_path, content[0][: int(share * len(content[0]))], content[1]), "incomplete or was changed")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_one_changed_byte_is_refused(tmp_path, content, data):
    weights = bytearray(content[0])
    weights[data.draw(st.integers(0, len(weights) - 1), "where")] ^= data.draw(st.integers(1, 255), "bits")
    refused(put(tmp_path, bytes(weights), content[1]), "incomplete or was changed")


def test_another_version_is_refused(tmp_path, content):
    refused(put_data(tmp_path, content, data_of(content) | {"version": VERSION + 1}), f"version {VERSION + 1}")
    card = json.loads(content[1]) | {"version": CARD_VERSION + 1}
    refused(put(tmp_path, content[0], json.dumps(card).encode()), f"card .* version {CARD_VERSION + 1}")


def test_a_missing_or_damaged_card_is_refused(tmp_path, content):
    path = put(tmp_path, *content)
    for card in (b"", b"{", b"[]", b"null", b'{"name": "toy"}', content[1][:-40], content[1].replace(b'"title"', b'"titel"'), b"\xff\xfe"):
        path.with_suffix(".json").write_bytes(card)
        refused(path, "card .* damaged")
    path.with_suffix(".json").unlink()
    refused(path, "card .* cannot be read")


@pytest.mark.parametrize("data", [{"format": "something else"}, {}, [1, 2], torch.zeros(3), 7])
def test_what_is_not_a_prior_is_refused(tmp_path, content, data):
    refused(put_data(tmp_path, content, data), "is not a shape prior")


@pytest.mark.parametrize(
    "changes",
    [
        {"refine": {}},
        {"refine": None},
        {"temperature": [1.0]},
        {"temperature": None},
        {"usual_evidence": "much"},
        {"inr": 3},
        {"inr": {}},
        {"refine": {"entry.weight": torch.zeros(2)}},
    ],
    ids=lambda changes: " ".join(f"{name} {type(value).__name__}" for name, value in changes.items()),
)
def test_a_prior_with_parts_missing_is_refused(tmp_path, content, changes):
    refused(put_data(tmp_path, content, data_of(content) | changes), "damaged")


def changed_inr(content, name: str, change) -> dict:
    data = data_of(content)
    data["inr"][name] = change(data["inr"][name])
    return data


@pytest.mark.parametrize("part", ["weight_0", "weight_1", "bias_0", "bias_1", "head_bias", "prior_log_diagonal"])
def test_an_implicit_network_with_parts_missing_is_refused(tmp_path, content, part):
    """Without its middle layer it would still compute something."""
    data = data_of(content)
    del data["inr"][part]
    refused(put_data(tmp_path, content, data), "damaged")


@pytest.mark.parametrize("name", ["weight_0", "weight_1", "head_weight", "prior_lower"])
@pytest.mark.parametrize("change", [lambda w: w[:1], lambda w: w * float("nan"), lambda w: w * float("inf")], ids=["size", "nan", "inf"])
def test_an_implicit_network_of_other_numbers_is_refused(tmp_path, content, name, change):
    refused(put_data(tmp_path, content, changed_inr(content, name, change)), "damaged")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_weights_and_calibration_that_are_no_numbers_are_refused(tmp_path, content, value):
    data = data_of(content)
    refine = {name: weights.float() * value for name, weights in data["refine"].items()}
    for changes in (
        {"refine": refine},
        {"temperature": [value, 1.0]},
        {"temperature": ["a", 1.0]},
        {"temperature": [1.0, 1.0, float("nan")]},
        {"temperature": [1.0, 1.0, -1.0]},
        {"temperature": [1.0, 1.0, 2.0, 3.0]},
        {"usual_evidence": float("nan")},
    ):
        refused(put_data(tmp_path, content, data | changes), "damaged")


def test_a_temperature_of_an_earlier_version_rises_everywhere(tmp_path, content):
    assert load_prior(put_data(tmp_path, content, data_of(content) | {"temperature": [0.8, 0.25]})).temperature == Temperature(0.8, 0.25)


def test_a_prior_that_believes_all_slices_comes_back(tmp_path, content):
    assert load_prior(put_data(tmp_path, content, data_of(content) | {"usual_evidence": -float("inf")})).usual_evidence == -np.inf


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("extent_mm", "wide", "damaged"),
        ("extent_mm", None, "damaged"),
        ("extent_mm", float("nan"), "damaged"),
        ("extent_mm", True, "damaged"),
        ("extent_mm", 0.0, "no anatomy"),
        ("extent_mm", -5, "no anatomy"),
        ("extent_mm", 1e9, "no anatomy"),
        ("title", None, "damaged"),
        ("name", 7, "damaged"),
        ("figures", "good", "damaged"),
        ("version", "1", "damaged"),
    ],
)
def test_a_card_with_values_of_another_kind_is_refused(tmp_path, content, name, value, words):
    card = json.loads(content[1]) | {name: value}
    refused(put(tmp_path, content[0], json.dumps(card).encode()), f"card .* {words}")


def test_a_path_too_long_for_any_disk_is_no_prior(tmp_path):
    with pytest.raises(InputError, match="no prior at"):
        load_prior(tmp_path / f"{'x' * 5000}.pt")


class _Code:
    def __reduce__(self):
        return os.mkdir, (os.environ["SHAPE_PRIOR_TEST_FOLDER"],)


def test_code_is_not_run(tmp_path, content, monkeypatch):
    made = tmp_path / "made"
    monkeypatch.setenv("SHAPE_PRIOR_TEST_FOLDER", str(made))
    refused(put_data(tmp_path, content, {"format": _Code()}), "damaged")
    refused(put_bytes(tmp_path, content, pickle.dumps(_Code(), 2)), "damaged")
    assert not made.exists()


@pytest.mark.parametrize("weights", [b"", b"PK", b"PK\x03\x04" + bytes(200), b"no archive", bytes(300), b"\x80\x02}q\x00."])
def test_another_file_under_the_name_is_refused(tmp_path, content, weights):
    refused(put_bytes(tmp_path, content, weights), "damaged|not a shape prior")


def test_an_unknown_prior_names_those_there_are(tmp_path):
    refused(tmp_path / "none.pt", "no prior at")
    with pytest.raises(InputError, match="no prior named unicorn"):
        load_prior("unicorn")


@pytest.mark.parametrize("failing", [1, 2])
def test_a_prior_that_could_not_be_written_is_not_there(tmp_path, monkeypatch, failing):
    calls = []

    def replace(source, target):
        calls.append(target)
        if len(calls) == failing:
            raise OSError("No space left on device")
        os.rename(source, target)

    monkeypatch.setattr("SparseAnatomyLib.model_files.os.replace", replace)
    with pytest.raises(OSError, match="No space"):
        save_prior(toy_prior(), tmp_path / "toy.pt")
    assert len(calls) == failing
    with pytest.raises(InputError):
        load_prior(tmp_path / "toy.pt")


def test_cards_are_listed_without_the_damaged_ones(tmp_path, monkeypatch, content):
    monkeypatch.setattr("ShapeCompletionLib.core.prior_card.priors_folder", lambda: tmp_path)
    put(tmp_path, *content)
    (tmp_path / "broken.json").write_text("{")
    assert [card.name for card in available_priors()] == ["toy"]
    monkeypatch.setattr("ShapeCompletionLib.core.prior.priors_folder", lambda: tmp_path)
    assert load_prior("toy").card.name == "toy"


def test_a_prior_that_was_renamed_is_found_by_its_new_name(tmp_path, monkeypatch, content):
    for module in ("prior", "prior_card"):
        monkeypatch.setattr(f"ShapeCompletionLib.core.{module}.priors_folder", lambda: tmp_path)
    put(tmp_path, *content)
    for suffix in (".pt", ".json"):
        (tmp_path / f"ours{suffix}").write_bytes((tmp_path / f"toy{suffix}").read_bytes())
    assert [card.name for card in available_priors()] == ["ours", "toy"]
    assert load_prior("ours").card.name == "ours"


def test_a_card_comes_back_as_it_was(tmp_path):
    card = PriorCard("card", "Tïtle", "What.", "CC-BY-4.0", 64.0, "ab", 12.5, 7, "train", {"axial 8 mm": {"dice inr": 0.9}})
    (tmp_path / "card.json").write_text(card.to_json(), encoding="utf-8")
    assert read_card(tmp_path / "card.json") == card


# A training's checkpoint

STATE = {"step": 3, "weights": torch.arange(6.0), "rng": {"state": 2**100}, "names": ["a", "b"]}


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    save_checkpoint(tmp_path / "folder" / "fold.pt", STATE)
    loaded = load_checkpoint(tmp_path / "folder" / "fold.pt")
    assert torch.equal(loaded.pop("weights"), STATE["weights"])
    assert loaded == {name: value for name, value in STATE.items() if name != "weights"}
    assert [file.name for file in (tmp_path / "folder").iterdir()] == ["fold.pt"]


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_checkpoint_is_none_or_whole(tmp_path, data):
    path = tmp_path / "fold.pt"
    save_checkpoint(path, STATE)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans(), "cut"):
        content = content[: data.draw(st.integers(0, len(content) - 1), "length")]
    else:
        content[data.draw(st.integers(0, len(content) - 1), "where")] ^= data.draw(st.integers(1, 255), "bits")
    path.write_bytes(content)
    loaded = load_checkpoint(path)
    assert loaded is None or isinstance(loaded, dict)


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive", bytes(300), pickle.dumps([1], 2), b"\x80\x02cos\nmkdir\n."])
def test_another_file_is_no_checkpoint(tmp_path, content):
    (tmp_path / "fold.pt").write_bytes(content)
    assert load_checkpoint(tmp_path / "fold.pt") is None
    assert load_checkpoint(tmp_path / "none.pt") is None


def test_a_checkpoint_that_could_not_be_written_leaves_the_last(tmp_path, monkeypatch):
    save_checkpoint(tmp_path / "fold.pt", STATE)

    def refuse(source, target):
        raise OSError("No space left on device")

    monkeypatch.setattr("SparseAnatomyLib.model_files.os.replace", refuse)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(tmp_path / "fold.pt", {"step": 4})
    assert load_checkpoint(tmp_path / "fold.pt")["step"] == 3
