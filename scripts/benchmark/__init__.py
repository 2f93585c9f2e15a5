"""Speed, memory and error of the operator and of whole training steps, beside their rivals."""
