#!/usr/bin/env bash
# Installs into a folder of its own, then builds a program against what lies there,
# with pkg-config: shared, static, as C and as C++ (where there is a C++ compiler).
#   check_install.sh SOURCE_ROOT BUILD_ROOT
set -euo pipefail
source=$1 build=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

meson install -C "$build" --no-rebuild --quiet --destdir "$folder/dest" >"$folder/log" 2>&1 || { cat "$folder/log"; exit 1; }
pc=$(find "$folder/dest" -name vecmill.pc)
libdir=$(dirname "$(dirname "$pc")")
prefix=$folder/dest$(sed -n 's/^prefix=//p' "$pc")
export PKG_CONFIG_PATH=$libdir/pkgconfig
flags() { pkg-config --define-variable=prefix="$prefix" "$@" vecmill; }

expect() {
  local said
  said=$("${@:2}")
  [ "$said" = "$1" ] || { echo "${*:2}: said \"$said\", wanted \"$1\"" >&2; exit 1; }
}

program=$source/tests/install/program.c
# shellcheck disable=SC2046
{
  gcc -Wall -Wextra -Wpedantic -Werror -std=c99 $(flags --cflags) "$program" -o "$folder/shared" $(flags --libs)
  # libvecmill static, what it stands on shared: Debian's sqlite3 names libraries for --static that need not be there
  requires=$(sed -n 's/^Requires.private: //p' "$pc" | tr -d ,)
  gcc $(flags --cflags) "$program" -o "$folder/static" "$libdir/libvecmill.a" \
    $(pkg-config --libs $requires) -pthread -lm
  if command -v g++ >/dev/null; then
    g++ -x c++ -Wall -Wextra -Wpedantic -Werror $(flags --cflags) "$program" -x none -o "$folder/cxx" $(flags --libs)
    expect not-found env LD_LIBRARY_PATH="$libdir" "$folder/cxx"
  fi
}
expect not-found env LD_LIBRARY_PATH="$libdir" "$folder/shared"
expect not-found "$folder/static"
# the program in docs/api.md, as it stands there
sed -n '/^```c$/,/^```$/p' "$source/docs/api.md" | sed '1d;$d' >"$folder/api.c"
# shellcheck disable=SC2046
gcc -Wall -Wextra -Wpedantic -Werror -std=c99 $(flags --cflags) "$folder/api.c" -o "$folder/api" $(flags --libs)
/usr/bin/python3 "$source/scripts/make_tiny_model.py" "$folder/model"
/usr/bin/python3 - "$folder/notes.db" <<'EOF'
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("CREATE TABLE notes(id INTEGER PRIMARY KEY, text TEXT)")
db.executemany("INSERT INTO notes(text) VALUES (?)", [("the sea",), ("bread and butter",), ("the stars",), (None,)])
db.commit()
EOF
said=$(env LD_LIBRARY_PATH="$libdir" VECMILL_HOME="$folder/home" "$folder/api" "$folder/model" "$folder/notes.db")
printf '%s\n' "$said" | grep -qx 'a boat on the sea | ships and sailors: [01]\.[0-9]*' &&
  printf '%s\n' "$said" | grep -qx '3 rows embedded' && printf '%s\n' "$said" | grep -qx '1 1\.000 the sea' ||
  { echo "docs/api.md: its program says $said" >&2; exit 1; }
for header in "$source"/include/vecmill/*.h; do
  [ -f "$prefix/include/vecmill/${header##*/}" ] || { echo "${header##*/}: not installed" >&2; exit 1; }
  # each public header stands alone
  echo "#include <vecmill/${header##*/}>" | gcc -Wall -Wextra -Werror -std=c99 -fsyntax-only -I"$prefix/include" -x c -
done
# nothing but the public calls leaves the shared library
strangers=$(nm -D --defined-only "$libdir/libvecmill.so" | awk '{print $3}' | grep -v '^vecmill_' || true)
[ -z "$strangers" ] || { echo "exported, but not public: $strangers" >&2; exit 1; }
[ -x "$prefix/bin/vecmill" ] || { echo "bin/vecmill: not installed" >&2; exit 1; }
if [ -f "$source/docs/vecmill.1" ]; then
  [ -f "$prefix/share/man/man1/vecmill.1" ] || { echo "vecmill.1: not installed" >&2; exit 1; }
fi
echo "1 passed, 0 failed"
