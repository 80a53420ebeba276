"""What a benchmark is: questions, data sources, metrics, and the sandbox that runs model-written code."""
