#!/usr/bin/env bash
# Pictures of a report for docs/images, of the page as `make repro` leaves it: scripts/screenshots.sh [REPORT]
# Its top, with recommendation and questions, in Chromium; and its charts of loss under budgets.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
report=$(realpath "${1:-$root/reports/quickstart-vision}")

for browser in chromium chromium-browser google-chrome; do
    command -v "$browser" >/dev/null && break
done
profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT
# a profile of its own, no GPU, and the light scheme whatever the desktop says
"$browser" --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars \
    --user-data-dir="$profile" --window-size=1100,1000 \
    --screenshot="$root/docs/images/report.png" "file://$report/index.html" 2>/dev/null
cp "$report/png/loss-under-budgets.png" "$root/docs/images/quickstart.png"
