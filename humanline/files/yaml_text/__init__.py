"""YAML as text: how it is parsed, apart from what the files say."""
