"""``mafalda``: the command line. Each command is a file of its own, imported when it is called."""

from __future__ import annotations

import importlib

import click

#: The module of each command, in which the command has its own name (``_`` for ``-``), and its summary; in the order of
#: ``mafalda --help``.
COMMANDS = {
    "up": ("mafalda.cli.commands.up", "Run a whole fleet on this machine: NATS, allocators, agents, workers."),
    "demo": ("mafalda.cli.demo.demo", "Publish a clip, watch it on other workers, show it live."),
    "agent": ("mafalda.cli.commands.agent", "Run the agent of this server and its mediasoup-workers."),
    "allocator": ("mafalda.cli.commands.allocator", "Run an allocator; any number may run."),
    "auth": (
        "mafalda.cli.commands.auth",
        "Run an auth service, which turns tokens into permissions; any number may run.",
    ),
    "keys": ("mafalda.cli.commands.keys", "Make the keys of a closed fleet and nats-server's configuration."),
    "token": ("mafalda.cli.commands.token", "Mint a token; revoke one, or all for a room or peer."),
    "grants": ("mafalda.cli.commands.grants", "Change what a peer may do, at once."),
    "end-room": ("mafalda.cli.commands.end_room", "Let every peer of a room leave."),
    "drain": ("mafalda.cli.commands.drain", "Move the peers of a server elsewhere, before it is stopped."),
    "monitor": ("mafalda.cli.commands.monitor", "Serve a page of the whole fleet, now and at any past moment."),
    "ls": ("mafalda.cli.commands.ls", "List servers, workers, rooms, peers and relays."),
    "log": ("mafalda.cli.commands.log", "Print the log: page, filter, follow, export."),
    "replay": ("mafalda.cli.commands.replay", "Compute the state at any time from the log."),
    "audit": ("mafalda.cli.commands.audit", "Find what should be by the log and is not, and say what to do."),
    "archive": ("mafalda.cli.commands.archive", "Copy the log into Parquet files in a folder or an object store."),
    "feed": ("mafalda.cli.commands.feed", "Print the events of rooms for programs, from where the last feed ended."),
    "http": ("mafalda.cli.commands.http", "Serve rooms, peers, tokens and the feed to applications over HTTP."),
    "webhooks": ("mafalda.cli.commands.webhooks", "Deliver the events of rooms by HTTP, signed and retried."),
    "explain": ("mafalda.cli.commands.explain", "Explain why something is where it is."),
    "load-test": (
        "mafalda.cli.commands.load_test",
        "Send and receive real media with any number of peers.",
    ),
    "doctor": ("mafalda.cli.commands.doctor", "Check this machine and the fleet, and say how to mend what is wrong."),
    "worker": ("mafalda.cli.commands.worker", "Install or find the mediasoup-worker."),
    "dropin": ("mafalda.cli.commands.dropin", "List the mediasoup versions that the drop-in serves."),
}


class LazyGroup(click.Group):
    """Imports a command only when it is called, so that ``mafalda worker path`` does not import WebRTC."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _ = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), cmd_name.replace("-", "_"))
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}.{cmd_name} is not a command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mafalda")
def main() -> None:
    """One WebRTC SFU of any size, made of mediasoup workers and NATS JetStream."""
