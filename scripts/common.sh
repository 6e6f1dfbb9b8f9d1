# shellcheck shell=bash
# Sourced by the scripts that users run: how they print messages and commands, refuse a call, and do a dry run.
# A script that calls `change` sets dry_run: empty, or any text for a dry run.

say() { printf '== %s\n' "$*"; }

# fail MESSAGE [EXIT CODE]: the script ends; 2, the default, is a mistake in the call.
fail() { printf '%s: %s\n' "${0##*/}" "$1" >&2; exit "${2:-2}"; }

# value OPTION [VALUE…]: refuses an option that is the last word of the call and so has no value.
value() { [ $# -gt 1 ] || fail "$1 takes a value; see --help"; }

# quoted WORD: the word as it must be written in a shell.
quoted() { case $1 in *[!A-Za-z0-9_./:=@%+-]* | '') printf "'%s'" "${1//\'/\'\\\'\'}" ;; *) printf %s "$1" ;; esac; }

# show COMMAND…: the command as a line that can be pasted into a shell.
show() { local word; printf '+'; for word; do printf ' %s' "$(quoted "$word")"; done; printf '\n'; }

# change COMMAND…: runs a command that changes something; a dry run prints it instead.
change() { if [ -n "$dry_run" ]; then show "$@"; else "$@"; fi; }
