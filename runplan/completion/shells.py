"""The few lines that a shell evaluates to complete `runplan`; the candidates come from `runplan -sc query=SHELL`.

Bash hands words over cut at `=`: what it would put behind the last cut is taken off the candidates again, and
`COMP_WORDBREAKS`, which belongs to every program, stays as it is.
"""

from __future__ import annotations

from runplan.errors import ConfigError, Problem
from runplan.suggest import did_you_mean

_BASH = r"""
_runplan_complete() {
  local line=${COMP_LINE:0:COMP_POINT} current=${COMP_WORDS[COMP_CWORD]} program=$1 found before
  command -v -- "$program" >/dev/null 2>&1 || program=runplan
  case $current in [=:]) current= ;; esac
  while [ "${line%"$current"}$current" != "$line" ]; do current=${current%?}; done
  before=${line%"$current"}
  before=${before##*[[:space:]]}
  COMPREPLY=()
  while IFS= read -r found; do
    COMPREPLY[${#COMPREPLY[@]}]=${found#"$before"}
  done < <(COMP_LINE=$line COMP_POINT= "$program" -sc query=bash 2>/dev/null)
}
complete -o nospace -F _runplan_complete runplan
"""
_ZSH = r"""
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
_runplan_complete() {
  local -a found ended open
  local one
  found=("${(@f)$(COMP_LINE=$LBUFFER $words[1] -sc query=zsh 2>/dev/null)}")
  for one in $found; do
    if [[ $one == *' ' ]]; then ended+=(${one% }); else open+=($one); fi
  done
  (( $#ended )) && compadd -Q -- $ended
  (( $#open )) && compadd -Q -S '' -- $open
}
compdef _runplan_complete runplan
"""
_FISH = r"""
function _runplan_complete
  set -lx COMP_LINE (commandline -cp | string collect)
  set -l words (commandline -opc)
  $words[1] -sc query=fish 2>/dev/null
end
complete -c runplan -f -a '(_runplan_complete)'
"""
INSTALL = {"bash": _BASH.lstrip(), "zsh": _ZSH.lstrip(), "fish": _FISH.lstrip()}
UNINSTALL = {
    "bash": "complete -r runplan; unset -f _runplan_complete\n",
    "zsh": "compdef -d runplan; unfunction _runplan_complete\n",
    "fish": "complete -e -c runplan; functions -e _runplan_complete\n",
}
HOW = {
    "bash": 'eval "$(runplan -sc install=bash)"   in ~/.bashrc',
    "zsh": 'eval "$(runplan -sc install=zsh)"   in ~/.zshrc',
    "fish": "runplan -sc install=fish | source   in ~/.config/fish/config.fish",
}


def read_request(words: list[str]) -> tuple[str, str]:
    """(`install`, `uninstall` or `query`; shell) of what stands beside `-sc`.

    Raises:
        ConfigError: none of them, or a shell that there are no lines for.
    """
    verb, _, shell = next((word for word in words if not word.startswith("-")), "").partition("=")
    if verb not in {"install", "uninstall", "query"}:
        raise ConfigError([Problem("-sc needs install=SHELL, uninstall=SHELL or query=SHELL", "-sc", HOW["bash"])])
    if not shell:
        fix = f"-sc {verb}=SHELL, with {', '.join(INSTALL)}"
        raise ConfigError([Problem(f"-sc {verb} names no shell", "-sc", fix)])
    if shell not in INSTALL:
        fix = did_you_mean(shell, INSTALL, f"shells: {', '.join(INSTALL)}")
        raise ConfigError([Problem(f"no completion for the shell {shell!r}", "-sc", fix)])
    return verb, shell
