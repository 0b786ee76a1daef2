#!/bin/bash
# The guest's end: takes a number and a command per line, the latter in base64, and answers with the number, the
# exit status and what the command said.
exec 3<>/dev/virtio-ports/shell
while read -r number command <&3; do
    bash -c "$(base64 -d <<<"$command")" >/run/test-shell.out 2>&1 </dev/null
    echo "$number $? $(base64 -w0 /run/test-shell.out)" >&3
done
