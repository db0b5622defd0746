"""lorakit: teach an SDXL model a character, from collecting pictures to a LoRA file.

Import the room you need (`from lorakit.training import plan`); importing lorakit itself is quick
and loads neither torch nor diffusers.
"""

__version__ = "0.1.0"

# The one place that holds the repository's public address; notebooks and docs are built from it.
REPOSITORY = "https://github.com/lorakit/lorakit"
