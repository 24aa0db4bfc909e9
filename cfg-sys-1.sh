# System settings of upf-uno-heds.sh. What is set in your environment takes precedence.

# Number of ranks: one server and PROCS-1 workers
: "${PROCS:=4}"
# Ranks per node
: "${PPN:=2}"

# On a cluster:
# : "${QUEUE:=debug}"
# : "${PROJECT:=my-project}"
# : "${WALLTIME:=01:00:00}"
