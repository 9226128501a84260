"""The embedded vision-language model: a Qwen2.5-VL of about three million parameters, and the script that builds it."""
