#!/bin/sh
# Makes the peers' virtual environment at $JAXNAS_PEERS_VENV (default: .venv-peers beside
# pyproject.toml). It is apart from jaxnas's own because rejax needs a gymnax before 1.0.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
venv=${JAXNAS_PEERS_VENV:-$root/.venv-peers}
python=${PYTHON:-$(command -v python3.11 || command -v python3)}
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/pip" install --quiet \
  "torch==2.13.0" "rejax==0.1.3" "gymnax<1.0" "jax==0.10.2" "optuna==5.0.0" "numpy>=2.4" \
  "stable-baselines3==2.9.2" "xgboost-cpu==3.2.0" "pandas>=2.3"
echo "peers' environment: $venv"
