"""``mafalda``: the command line. Each command is a file of its own, loaded when it is called.

What does not belong here: what a command does.
"""

from __future__ import annotations

import importlib

import click

#: Command to the module that holds it, under the same name; in the order of ``mafalda --help``.
COMMANDS = {
    "up": "mafalda.cli.up",
    "demo": "mafalda.cli.demo",
    "agent": "mafalda.cli.agent",
    "allocator": "mafalda.cli.allocator",
    "ls": "mafalda.cli.ls",
    "log": "mafalda.cli.log",
    "replay": "mafalda.cli.replay",
    "explain": "mafalda.cli.explain",
    "doctor": "mafalda.cli.doctor",
    "worker": "mafalda.cli.worker",
}

SUMMARIES = {
    "up": "Bring a whole fleet up on this machine: NATS, allocator, agent, workers.",
    "demo": "Let a clip flow across two workers and show it.",
    "agent": "Run this server's agent and its workers.",
    "allocator": "Run an allocator; as many as you like.",
    "ls": "Servers, workers, rooms, peers, relays: who is where.",
    "log": "Everything that happened: page, filter, follow, export.",
    "replay": "The state as of any moment, rebuilt from the log.",
    "explain": "Why something is where it is.",
    "doctor": "What is installed, reachable, misconfigured, and how to mend it.",
    "worker": "Install or find the mediasoup-worker.",
}


class LazyGroup(click.Group):
    """Imports a command only when it is needed: ``mafalda worker path`` must not pay for WebRTC."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        command = getattr(importlib.import_module(module), cmd_name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}.{cmd_name} is no command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, SUMMARIES[name]) for name in COMMANDS])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mafalda")
def main() -> None:
    """One WebRTC SFU of any size, made of mediasoup workers and NATS JetStream."""
