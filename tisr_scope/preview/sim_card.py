"""State of the conventional SIM in plain words: what its image is worth."""

from __future__ import annotations

from qtpy.QtWidgets import QGridLayout, QLabel

from tisr_scope.live.live_records import SimStatus
from tisr_scope.preview.widgets import Card, Pill, Reading


class SimCard(Card):
    """Carrier, modulation depths, images per second and dropped exposures."""

    def __init__(self) -> None:
        super().__init__("Conventional SIM")
        self.setToolTip(
            "From the patterned exposures whose mean is the wide-field image, always the newest "
            "exposure of every pattern; no network"
        )
        self.state = Pill("waiting")
        self.body.addWidget(self.state)
        self.reason = QLabel("")
        self.reason.setObjectName("hint")
        self.reason.setWordWrap(True)
        self.body.addWidget(self.reason)
        grid = QGridLayout()
        self.modulation = Reading("Modulation depth of each orientation")
        self.period = Reading("Pattern period")
        self.images = Reading("SIM images")
        self.dropped = Reading("Exposures not used")
        grid.addWidget(self.modulation, 0, 0, 1, 2)
        grid.addWidget(self.period, 1, 0, 1, 2)
        grid.addWidget(self.images, 2, 0)
        grid.addWidget(self.dropped, 2, 1)
        grid.setVerticalSpacing(7)
        self.body.addLayout(grid)

    def show_status(self, status: SimStatus, *, shown: bool, running: bool) -> None:
        """Show the state.

        ``shown`` is False while another channel is looked at.  Afterwards (``running`` False) the
        last rate of the run stays.
        """
        head, _, rest = status.text.partition(": ")
        if not shown:
            self.state.show_state("first channel only", "plain")
        elif status.found and not rest:
            self.state.show_state(head, "good")
        else:
            # Longer texts go below the pill, which has one line.
            self.state.show_state(head, "warning" if rest else "plain")
        self.reason.setText(rest)
        self.reason.setVisible(bool(rest))
        depths = " ".join(f"{depth:.2f}" for depth in status.modulation)
        self.modulation.show_value(depths or "–", "1 is full contrast of the pattern")
        period = status.period_um
        self.period.show_value("–" if period is None else f"{1e3 * period:.1f} nm", "as measured")
        if running and status.images:
            self.images.show_value(f"{status.image_rate:.1f} /s", f"{status.images} so far")
        self.dropped.show_value(
            f"{status.dropped}", "exposures replaced by newer ones; all of them are saved"
        )
