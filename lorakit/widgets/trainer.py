"""The trainer's form: the base model and the three knobs in front, with the exact number of steps
below them.
"""

from __future__ import annotations

import json
from html import escape

import ipywidgets as W

from ..colab import gpu
from ..errors import DatasetError, LorakitError
from ..project import Project
from ..training.config import PreviewSettings, TrainingSettings
from ..training.config.optimizer import departures, recommended
from ..training.examples import Survey, survey
from ..training.plan import Plan
from . import red
from .folders import FoldersForm
from .forms import INDENT, Form, folded
from .presets import PresetRow

KNOBS = ("base_model", "repeats", "batch_size", "epochs")
USUAL_STEPS = 450  # what a character usually takes


class TrainerForm(W.VBox):
    """Training and preview settings of a project. `training` and `preview` are the two forms,
    `folders` is that of the dataset's folders, or None.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self.survey, self.reason = survey_of(project)
        self.seconds_per_step = measured_speed(project)
        self.line = W.HTML(layout={"margin": INDENT}).add_class("lk-plan")
        self.steps = W.IntText(USUAL_STEPS, layout={"width": "90px"}).add_class("lk-aim-steps")
        self.aim = W.Button(
            description="Aim for", icon="crosshairs", layout={"width": "110px"}
        ).add_class("lk-aim")
        self.aim.on_click(lambda _: self._aim())
        aiming = W.HBox([self.aim, self.steps, W.Label("steps")], layout={"margin": INDENT})
        self.advice = W.HTML().add_class("lk-advice")
        self.use = W.Button(description="Use these", icon="check").add_class("lk-use-advice")
        self.use.on_click(lambda _: self._use_advice())
        self.advising = W.HBox([self.advice, self.use], layout={"margin": INDENT})
        self.presets = PresetRow(self._plan, lambda **values: self.training.fill(**values))
        below = [self.line, aiming, self.advising, self.presets]
        self.training = Form(project, TrainingSettings, KNOBS, below)
        self.training.observe(lambda _: self._show_plan(), "settings")
        self.preview = Form(project, PreviewSettings)
        pages = [self.training, folded("Previews", self.preview)]
        self.folders = self._folders()
        if self.folders:
            pages.insert(1, folded("Folders", self.folders))
        super().__init__(pages)
        self._show_plan()

    @property
    def value(self) -> tuple[TrainingSettings, PreviewSettings]:
        """Both settings. Raises SettingsError when something on screen is wrong."""
        return self.training.value, self.preview.value

    @property
    def plan(self) -> Plan:
        """The exact plan for the settings that are in force. Raises LorakitError."""
        return self._plan(self.training.settings)

    def _plan(self, settings: TrainingSettings) -> Plan:
        if self.survey is None:
            raise DatasetError(self.reason)
        return self.survey.plan(settings)

    def _folders(self) -> FoldersForm | None:
        """The form for folders of the dataset, where there are any beside dataset/ itself."""
        if self.survey is None or set(self.survey.folders) == {"."}:
            return None
        return FoldersForm(self.project, self.survey.folders, self._survey_again)

    def _survey_again(self) -> None:
        self.survey, self.reason = survey_of(self.project)
        self._show_plan()

    def _show_plan(self) -> None:
        try:
            self.line.value = f"<b>{escape(self.plan.sentence(self.seconds_per_step))}</b>"
        except LorakitError as error:
            self.line.value = red(str(error))
        self._show_advice()
        self.presets.show(self.training.settings)

    def _show_advice(self) -> None:
        """What is recommended for the optimiser, where the settings differ; the embedded base is
        far smaller than what that is said of.
        """
        settings = self.training.settings
        self.advice.value = escape(departures(settings))
        wanted = self.advice.value and settings.base_model != "demo"
        self.advising.layout.display = None if wanted else "none"

    def _use_advice(self) -> None:
        settings = self.training.settings
        values = recommended(settings.optimizer)
        off = {name for name in values if name.endswith("_lr") and not getattr(settings, name)}
        self.training.fill(**{k: v for k, v in values.items() if k not in off})

    def _aim(self) -> None:
        if self.survey and self.steps.value > 0:
            found = self.survey.aim(self.training.settings, self.steps.value)
            self.training.fill(repeats=found.repeats, epochs=found.epochs, max_steps=0)


def survey_of(project: Project) -> tuple[Survey | None, str]:
    """The dataset's sizes and folders; or None, and the sentence that says why."""
    try:
        return survey(project), ""
    except LorakitError as error:
        return None, str(error)


def measured_speed(project: Project) -> float | None:
    """Seconds a step took in the last run; None without one, or if it was on a GPU and this machine
    has none.
    """
    try:
        timing = json.loads((project.output / "timing.json").read_text(encoding="utf-8"))
        seconds, on_gpu = float(timing["seconds_per_step"]), timing["device"] != "cpu"
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return seconds if on_gpu == bool(gpu()) else None
