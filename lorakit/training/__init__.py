"""Training: from a folder of captioned pictures and a base model to a LoRA file."""

import logging
import os

# Two libraries warn, each time they are loaded, of parts that lorakit does not use (torchvision's
# image processors, 4-bit products on a CPU). Whoever wants to hear it sets the variable.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
