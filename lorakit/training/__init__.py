"""Training: from a folder of captioned pictures and a base model to a LoRA file."""
