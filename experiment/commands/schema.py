"""Print the JSON schema with which editors complete and check experiment files."""

import argparse
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pass


def run(options: argparse.Namespace) -> int:
    from experiment.config.json_schema import json_schema

    print(json.dumps(json_schema(), indent=1))
    return 0
