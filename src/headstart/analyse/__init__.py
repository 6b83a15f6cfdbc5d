"""Analysis: similarity of the representations of encoders before and after fine-tuning."""
