# ruff: noqa: E402
# The source of XL_LoRA_Trainer.ipynb. After a change: python scripts/build_notebooks.py

# %% [markdown] {"accelerator": "GPU"}
# # XL LoRA Trainer
# From a tagged folder to a `.safetensors` file that A1111, Forge, ComfyUI, InvokeAI and diffusers load.
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](COLAB/notebooks/XL_LoRA_Trainer.ipynb)
#
# **Run all** with nothing chosen trains on drawn sample pictures within minutes, with or without a GPU. For your own
# character: make its dataset in the [Dataset Maker](COLAB/notebooks/Dataset_Maker.ipynb), choose it under *Project*,
# look at the settings, and run the cells below them.

# %% Set up
import pathlib
import sys
from importlib.metadata import distributions

here = pathlib.Path.cwd()
checkout = [str(p) for p in (here, *here.parents) if (p / "lorakit" / "colab.py").is_file()]
if checkout:  # opened from a checkout: use it
    sys.path.insert(0, checkout[0])
elif not any(d.name == "lorakit" and d.version == "VERSION" for d in distributions()):
    print("Installing lorakit VERSION ...")
    # %pip install --quiet --no-deps "lorakit @ REPOSITORY/archive/refs/tags/vVERSION.zip"
from lorakit import colab

print(colab.setup())

# %% Project
from lorakit.widgets import show
from lorakit.widgets.projects import ProjectPicker

picker = show(ProjectPicker())

# %% Settings
from lorakit.widgets.trainer import TrainerForm

form = show(TrainerForm(picker.ready(captions=True)))

# %% Train
from lorakit.widgets.panel import Panel

panel = show(Panel(form.project))
finished = panel.train(*form.value)

# %% The result: before and after
from lorakit.widgets import results

result = show(results.result(form.project, panel.likeness))

# %% Every epoch: choose the best
epochs = show(results.epochs(form.project, panel.likeness))
