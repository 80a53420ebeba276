"""The suite file: loading it, resolving it into keys, finding weights, building prompts."""
