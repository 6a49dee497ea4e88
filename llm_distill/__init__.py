"""llm-distill: make a small model good at a task with the help of a large one."""

__version__ = "0.1.0"
