# ruff: noqa: E402
# The source of Dataset_Maker.ipynb. After a change: python scripts/build_notebooks.py

# %% [markdown]
# # Dataset Maker
# From pictures of a character to a clean, tagged folder that a LoRA can be trained on.
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](COLAB/notebooks/Dataset_Maker.ipynb)
#
# **Run all** with nothing chosen works on drawn sample pictures, so that you can see what each step does. For your
# own character: name it under *Project*, collect pictures or put them into the folder shown there, and run the cells below.
# Nothing is ever deleted: what goes, goes to the project's `removed` folder and can be brought back.

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

# %% Collect: fan art, links, screencaps, 3D models, sprites, your own files (look first, then take)
from lorakit.widgets.collecting import CollectView

collecting = show(CollectView(picker.ready()))

# %% Pictures
from lorakit.widgets.gallery import gallery

pictures = show(gallery(picker.ready()))

# %% Clean: broken pictures and copies go to `removed`
from lorakit.widgets.cleaning import CleaningView

cleaning = show(CleaningView(picker.ready()))
swept = cleaning.run()

# %% Tags: the activation tag, the character's own tags, the tagger
from lorakit.widgets.tagging import Review, TaggingForm

tagging = show(TaggingForm(picker.ready()))

# %% Write the captions and look at them
review = show(Review(picker.ready()))
report = review.run(tagging)

# %% [markdown]
# The dataset is ready: go on in the [LoRA trainer](COLAB/notebooks/XL_LoRA_Trainer.ipynb), which opens the project
# that you chose here. Not content? Change the tags above and run the last cell again.
