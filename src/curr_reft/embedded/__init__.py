"""The embedded model: a real Qwen2.5-VL of 1.3 million parameters that answers questions about the drawn world.

Its ability is latent by design: pre-training teaches it to see and to reason, then a short style phase makes it answer
carelessly most of the time. Post-training on it shows that a method works, and mostly elicits what is there.
"""
