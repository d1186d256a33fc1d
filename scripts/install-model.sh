#!/bin/sh
# Installs the embedding network FILE as facenet.onnx in FOLDER. Another one that is there stays beside it as
# facenet-VERSION.onnx, so that galleries made with it go on working.
#
#   install-model.sh FILE FOLDER
set -eu
file=$1
folder=$2
present=$folder/facenet.onnx

sha256() { sha256sum "$1" | cut -c 1-64; }

if [ -f "$present" ] && ! cmp -s "$file" "$present"; then
    hash=$(sha256 "$present")
    kept=
    for other in "$folder"/facenet-*.onnx; do
        if [ -f "$other" ] && [ "$(sha256 "$other")" = "$hash" ]; then kept=$other; fi
    done
    if [ -z "$kept" ]; then
        # A hard link, so that the network is in place at every moment.
        kept=$folder/facenet-$(printf %s "$hash" | cut -c 1-12).onnx
        ln "$present" "$kept" 2>/dev/null || cp -p "$present" "$kept"
    fi
    echo "the network that was installed stays for the galleries made with it: $kept"
fi
# The new file replaces the old one as a whole; a running program has read the old one.
new=$folder/.facenet.onnx.$$
trap 'rm -f "$new"' EXIT
install -m 644 "$file" "$new"
mv -f "$new" "$present"
