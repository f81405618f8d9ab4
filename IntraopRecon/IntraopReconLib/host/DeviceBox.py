"""Where it is computed, in step 4 of the panel: the devices that there are, the one that is used, and why."""

from __future__ import annotations

from typing import Any

from IntraopReconLib.core.config import ReconstructionConfig
from SparseAnatomyLib.errors import SparseAnatomyError
from SparseAnatomyLib.host.Environment import isReady
from SparseAnatomyLib.host.Requirements import WARP, missing
from SparseAnatomyLib.host.Translate import tr as _

from .Panel import Panel

AUTO = ReconstructionConfig.device
_ALWAYS = (AUTO, "cpu")
_ANY_CARD = "cuda"


class DeviceBox:
    """Offers auto, the CPU, and the cards that the worker counts, each by its name.

    A scene may come from another computer: the card that it names stays its setting, and `auto` is used where there is no such card.
    """

    def __init__(self, panel: Panel) -> None:
        """Connect the combo box."""
        self._panel, self._box, self._label = panel, panel.ui.deviceComboBox, panel.ui.deviceLabel
        self._cards: dict[str, str] | None = None  # name by device, once the worker has said them
        self._isFilling, self._isAsking = False, False
        self._asked: tuple[str, bool] | None = None
        self._sentence = ""
        self._box.connect("currentTextChanged(QString)", self._onChosen)

    @property
    def device(self) -> str:
        """The device that is used: that of the scene, unless it is known not to be there."""
        return AUTO if self._isGone else self._kept

    def show(self) -> None:
        """Take what the scene says."""
        self._fill()
        self._askCards()
        self._ask()

    @property
    def _kept(self) -> str:
        return self._panel.parameters.settings.device

    @property
    def _isGone(self) -> bool:
        return self._cards is not None and self._kept not in self._offered()

    def _offered(self) -> dict[str, str]:
        """Return what stands in the combo box, by device."""
        cards = self._cards
        if cards is None:  # until it is known, what the scene says is taken for there
            return {device: device for device in (*_ALWAYS, self._kept)}
        anyCard = {_ANY_CARD: _ANY_CARD} if cards else {}
        return {**{device: device for device in _ALWAYS}, **anyCard, **{device: f"{device} - {name}" for device, name in cards.items()}}

    def _fill(self) -> None:
        offered = self._offered()
        self._isFilling = True
        try:
            if [self._box.itemText(index) for index in range(self._box.count)] != list(offered.values()):
                self._box.clear()
                self._box.addItems(list(offered.values()))
            self._box.setCurrentText(offered[self.device])
        finally:
            self._isFilling = False

    def _onChosen(self, text: str) -> None:
        if not self._isFilling:
            self._panel.keep(device=text.partition(" ")[0])
            self._ask()

    def _askCards(self) -> None:
        """Let the worker count the cards, unless it has."""
        if self._cards is not None or not isReady():
            return

        def take(cards: dict[str, str]) -> None:
            self._cards, self._isAsking = cards, False
            self._fill()
            self._ask()

        def fail(_error: SparseAnatomyError) -> None:
            self._isAsking = False  # it is asked again when the panel is shown again
            self._ask()

        self._isAsking = True
        try:
            self._panel.errands.cards(take, fail)
        except SparseAnatomyError as error:
            fail(error)

    def _ask(self) -> None:
        """Let the worker say where it would compute, and why; not again for the same question."""
        question = self.device, bool(missing([WARP]))  # once that is installed, the answer is another
        if not isReady() or (self._isAsking and self._kept not in _ALWAYS):
            return
        if question == self._asked:
            self._say()
            return
        self._asked, self._sentence = question, ""
        self._say()

        def take(sentence: Any) -> None:
            if question == self._asked:
                self._sentence = str(sentence)
                self._say()

        try:
            self._panel.errands.device(question[0], take, take)
        except SparseAnatomyError as error:
            take(error)

    def _say(self) -> None:
        gone = _("There is no graphics card {device}, which this scene asks for, on this computer: auto is used.").format(device=self._kept)
        self._label.text = f"{gone} {self._sentence}".strip() if self._isGone else self._sentence
