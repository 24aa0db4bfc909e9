# System settings of upf-uno-heds.sh: take the # away and edit. What is set in your environment takes precedence; what is
# set nowhere comes from the site's file (swiftpy/sites/*.toml, docs/sites.md).

# Number of ranks: one server and PROCS-1 workers
# : "${PROCS:=4}"
# Ranks per node
# : "${PPN:=2}"

# On a cluster:
# : "${QUEUE:=debug}"
# : "${PROJECT:=my-project}"
# : "${WALLTIME:=01:00:00}"
