"""The accelerators, one module each; `protocol` is what the server knows of them."""

import os

# Read once, as transformers and huggingface_hub are imported. They warn about torchvision, which no
# text-to-image pipeline here uses, and their progress bars fill a log with carriage returns.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
