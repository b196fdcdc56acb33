"""Style and script of the page. Nothing is loaded from elsewhere; the script only highlights.

Every rule begins with `.bb-explain`, so that nothing leaks into the notebook around it.
"""

from __future__ import annotations

__all__ = ["PAGE_STYLE", "SCRIPT", "STYLE"]

_LIGHT = """
  --bg: #ffffff; --card: #f6f7f9; --ink: #1c2430; --dim: #5b6675; --line: #d5dae1; --hot: #fff1c2;
  --c0: #2563b8; --c1: #a2540a; --c2: #1f7a4d; --c3: #a03c86; --c4: #0f7686; --c5: #6a5acd;
""".strip()
_DARK = """
  --bg: #14181f; --card: #1d232d; --ink: #e6eaf0; --dim: #9aa6b5; --line: #384250; --hot: #4a3f14;
  --c0: #7db2ff; --c1: #f0a657; --c2: #6fd3a0; --c3: #ec96d2; --c4: #62cfe0; --c5: #b0a5ff;
""".strip()

STYLE = f"""
.bb-explain {{
  {_LIGHT}
  color: var(--ink); background: var(--bg); font: 15px/1.5 system-ui, sans-serif;
}}
@media (prefers-color-scheme: dark) {{ .bb-explain {{
  {_DARK}
}} }}
body[data-jp-theme-light="true"] .bb-explain, body.vscode-light .bb-explain {{
  {_LIGHT}
}}
body[data-jp-theme-light="false"] .bb-explain, body.vscode-dark .bb-explain {{
  {_DARK}
}}
.bb-explain .bb-scroll {{ overflow-x: auto; }}
.bb-explain .bb-drawing {{ display: block; max-width: none; margin: 0 auto;
  font: 11px/1 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }}
.bb-explain .bb-drawing text {{ fill: var(--ink); }}
.bb-explain .bb-drawing .bb-note, .bb-explain .bb-more text {{ fill: var(--dim); }}
.bb-explain .bb-drawing .bb-title {{ font-weight: 700; }}
.bb-explain .bb-c0 {{ --c: var(--c0); }} .bb-explain .bb-c1 {{ --c: var(--c1); }}
.bb-explain .bb-c2 {{ --c: var(--c2); }} .bb-explain .bb-c3 {{ --c: var(--c3); }}
.bb-explain .bb-c4 {{ --c: var(--c4); }} .bb-explain .bb-c5 {{ --c: var(--c5); }}
.bb-explain .bb-lane line {{ stroke: var(--line); stroke-dasharray: 3 4; }}
.bb-explain .bb-lane rect {{ fill: var(--card); stroke: var(--c); stroke-width: 1.5; }}
.bb-explain .bb-lane text {{ text-anchor: middle; }}
.bb-explain .bb-drawing .bb-class {{ font-size: 14px; font-weight: 700; fill: var(--c); }}
.bb-explain .bb-region rect {{ fill: var(--card); stroke: var(--c); }}
.bb-explain .bb-region .bb-title {{ fill: var(--c); }}
.bb-explain .bb-op rect {{ fill: transparent; }}
.bb-explain .bb-op circle {{ fill: var(--dim); stroke: var(--dim); }}
.bb-explain .bb-by-cursor circle {{ fill: none; }}
.bb-explain .bb-by-at circle {{ fill: var(--ink); stroke: var(--ink); stroke-width: 3; }}
.bb-explain .bb-by-compiler circle {{ fill: none; stroke: none; }}
.bb-explain .bb-network text {{ font-weight: 700; }}
.bb-explain .bb-edge text {{ text-anchor: middle; }}
.bb-explain .bb-edge .bb-line {{ fill: none; stroke: var(--c); stroke-width: 1.7; }}
.bb-explain .bb-answer .bb-line {{ stroke-dasharray: 6 4; }}
.bb-explain .bb-edge .bb-head {{ fill: var(--c); }}
.bb-explain .bb-edge .bb-hit {{ fill: none; stroke: transparent; stroke-width: 26; }}
.bb-explain [data-k]:focus-visible {{ outline: 2px solid var(--ink); outline-offset: 1px; }}
.bb-explain .bb-op:hover rect, .bb-explain .bb-op.bb-hot rect {{ fill: var(--hot); }}
.bb-explain .bb-edge:hover .bb-line, .bb-explain .bb-edge.bb-hot .bb-line {{ stroke-width: 3.5; }}
.bb-explain .bb-edge:hover .bb-hit, .bb-explain .bb-edge.bb-hot .bb-hit {{ stroke: var(--hot); }}
.bb-explain .bb-sum {{ color: var(--dim); margin: 4px 0 10px; overflow-wrap: anywhere; }}
.bb-explain .bb-sum b {{ color: var(--ink); }}
.bb-explain .bb-key {{ color: var(--dim); font-size: 13px; margin: 6px 0; }}
""".strip()

PAGE_STYLE = (
    """
:root { color-scheme: light dark; }
body { margin: 0; }
.bb-explain { padding: 20px clamp(12px, 3vw, 40px) 40px; min-height: 100vh;
  box-sizing: border-box; }
.bb-explain h1 { font-size: 25px; margin: 0; overflow-wrap: anywhere; }
.bb-explain h2 { font-size: 18px; margin: 34px 0 8px; }
.bb-explain h3 { font-size: 15px; margin: 20px 0 4px; overflow-wrap: anywhere; }
.bb-explain .bb-told { position: sticky; bottom: 0; z-index: 1; background: var(--card);
  border: 1px solid var(--line); border-radius: 6px; padding: 8px 12px; margin: 8px 0 0;
  font-size: 13px; white-space: pre-wrap; overflow-wrap: anywhere; max-height: 30vh;
  overflow-y: auto; }
.bb-explain table { border-collapse: collapse; width: 100%; font-size: 13.5px; }
.bb-explain th { text-align: left; color: var(--dim); font-weight: 600; white-space: nowrap; }
.bb-explain th, .bb-explain td { padding: 4px 14px 4px 0; vertical-align: top;
  border-bottom: 1px solid var(--line); }
.bb-explain td { min-width: 5ch; overflow-wrap: anywhere; }
.bb-explain td.bb-wide { min-width: 26ch; }
.bb-explain td.bb-number, .bb-explain th.bb-number { text-align: right; white-space: nowrap; }
.bb-explain td.bb-short { white-space: nowrap; }
.bb-explain code { font: 12px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas,
  "DejaVu Sans Mono", monospace; }
.bb-explain tr[data-k]:hover td, .bb-explain tr.bb-hot td { background: var(--hot); }
@media print {
  .bb-explain, body.vscode-dark .bb-explain { """
    + _LIGHT.replace("\n", " ")
    + """ padding: 0; }
  .bb-explain .bb-told { display: none; }
  .bb-explain .bb-scroll { overflow: visible; }
  .bb-explain .bb-drawing { max-width: 100%; height: auto; max-height: 250mm; }
  .bb-explain table { font-size: 10px; }
  .bb-explain tr { break-inside: avoid; }
  .bb-explain h2, .bb-explain h3 { break-after: avoid; }
}
""".strip()
)

#: Highlights what belongs together and says what is known about it. What it shows was escaped
#: when it was written, and is set as text.
SCRIPT = """
(function () {
  "use strict";
  document.querySelectorAll(".bb-explain").forEach(function (root) {
    var told = root.querySelector(".bb-told");
    var hint = told.textContent;
    var kept = "";
    function keyOf(event) {
      var found = event.target.closest("[data-k]");
      return found && root.contains(found) ? found.getAttribute("data-k") : "";
    }
    function partsOf(key) {
      return key ? root.querySelectorAll('[data-k="' + key + '"]') : [];
    }
    function show(key) {
      root.querySelectorAll(".bb-hot").forEach(function (one) { one.classList.remove("bb-hot"); });
      var text = hint;
      partsOf(key).forEach(function (one) {
        one.classList.add("bb-hot");
        var title = one.querySelector("title");
        if (title) { text = title.textContent; }
      });
      told.textContent = text;
    }
    root.addEventListener("pointerover", function (event) { show(keyOf(event) || kept); });
    root.addEventListener("focusin", function (event) { show(keyOf(event) || kept); });
    root.addEventListener("focusout", function () { show(kept); });
    root.addEventListener("click", function (event) {
      var key = keyOf(event);
      kept = key === kept ? "" : key;
      show(kept);
    });
    root.addEventListener("keydown", function (event) {
      if (event.key === "Escape") { kept = ""; show(""); }
      if (event.key === "Enter") { kept = keyOf(event); show(kept); }
    });
  });
  document.documentElement.setAttribute("data-ready", "true");
})();
""".strip()
