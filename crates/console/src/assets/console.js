"use strict";
// Everything but the live tail and the charts works without this script. All text goes in as text, never as HTML.
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const one = (selector) => document.querySelector(selector);
  const make = (name, text, className) => {
    const element = document.createElement(name);
    if (text !== undefined && text !== null) element.textContent = text;
    if (className) element.className = className;
    return element;
  };

  // Relative times, as the server writes them.
  const rough = (seconds) =>
    seconds < 60 ? `${seconds} s`
      : seconds < 3600 ? `${Math.floor(seconds / 60)} min`
        : seconds < 172800 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86400)} d`;
  const renew = () => {
    for (const time of all("time[datetime]")) {
      const seconds = Math.floor((Date.now() - Date.parse(time.dateTime)) / 1000);
      const text = seconds < 0 ? `in ${rough(-seconds)}` : seconds < 5 ? "now" : `${rough(seconds)} ago`;
      if (time.textContent !== text) time.textContent = text;
    }
  };
  setInterval(renew, 5000);

  // Where the sections are a line that scrolls, the present one is in sight.
  const section = one(".sections [aria-current]");
  const line = section?.closest(".sections");
  if (line) line.scrollLeft = section.offsetLeft - line.offsetLeft - (line.clientWidth - section.offsetWidth) / 2;

  // Copy buttons.
  const say = (text) => {
    let line = one("#said");
    if (!line) {
      line = make("div", "", "unseen");
      line.id = "said";
      line.setAttribute("role", "status");
      document.body.append(line);
    }
    line.textContent = text;
  };
  const copy = async (text, button) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Over http, where browsers keep the clipboard to themselves.
      const area = make("textarea", text);
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    say("Copied");
    if (button) {
      const before = button.dataset.label || button.textContent;
      button.dataset.label = before;
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = before; }, 1500);
    }
  };
  for (const button of all("[data-copy]")) {
    button.hidden = false;
    // Without a text: that of the block beside it.
    const text = () => button.dataset.copy || button.parentElement.querySelector("pre").textContent;
    button.addEventListener("click", () => copy(text(), button));
  }

  // A link to the portal has its secret in the fragment, which only a script can read.
  const door = one("form[data-enter]");
  if (door && location.hash.length > 1) {
    door.elements.link.value = location.hash;
    history.replaceState(null, "", location.pathname + location.search);
    door.submit();
  }

  // Keys.
  const help = one("#help");
  const rows = () => all("tr[data-row]").filter((row) => row.offsetParent);
  const choose = (step) => {
    const list = rows();
    if (!list.length) return;
    const at = list.findIndex((row) => row.classList.contains("chosen"));
    const next = list[at < 0 ? (step > 0 ? 0 : list.length - 1) : Math.min(Math.max(at + step, 0), list.length - 1)];
    for (const row of list) row.classList.toggle("chosen", row === next);
    const link = next.querySelector("a[href]");
    if (link) link.focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest" });
  };
  const chosen = () => one("tr.chosen");
  const press = (key) => {
    const row = chosen();
    const target = (row && row.querySelector(`[data-key="${key}"]`)) || one(`[data-key="${key}"]`);
    if (target) target.click();
    else if (key === "c" && row && row.dataset.id) copy(row.dataset.id);
    else return false;
    return true;
  };
  const keys = {
    "/": () => { one("#q")?.focus(); one("#q")?.select(); return true; },
    "?": () => { help?.showModal(); return true; },
    j: () => { choose(1); return true; },
    k: () => { choose(-1); return true; },
    r: () => press("r"),
    x: () => press("x"),
    c: () => press("c"),
    Enter: () => {
      const link = document.activeElement === document.body && chosen()?.querySelector("a[href]");
      if (link) link.click();
      return Boolean(link);
    },
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const at = event.target;
    if (at instanceof Element && at.closest("input, textarea, select, dialog")) {
      if (event.key === "Escape") at.blur();
      return;
    }
    if (Object.hasOwn(keys, event.key) && keys[event.key]()) event.preventDefault();
  });
  document.addEventListener("click", (event) => {
    const account = one(".account[open]");
    if (account && !account.contains(event.target)) account.open = false;
  });

  // Charts: each draws the table that it stands beside.
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const tones = { good: "--good", bad: "--bad", warn: "--warn", wait: "--accent", off: "--soft" };
  const strokes = ["--accent", "--bad", "--warn", "--good", "--key", "--soft"];
  const clock = (seconds, span) => {
    const text = new Date(seconds * 1000).toISOString();
    return span > 172800 ? text.slice(5, 10) : text.slice(11, 16);
  };
  const draw = (figure) => {
    const table = figure.querySelector("table");
    const heads = all("thead th", table);
    const lines = all("tbody tr", table);
    if (lines.length < 2) return;
    const value = (cell) => (cell.dataset.value === undefined ? null : Number(cell.dataset.value));
    const data = heads.map((_, column) => lines.map((line) => value(line.children[column])));
    const stacked = figure.dataset.kind === "stack";
    const shown = data.map((column) => [...column]);
    if (stacked) {
      for (let column = shown.length - 2; column > 0; column--) {
        shown[column] = shown[column].map((number, row) => (number || 0) + (shown[column + 1][row] || 0));
      }
    }
    const plot = figure.querySelector(".plot");
    const span = data[0][data[0].length - 1] - data[0][0];
    const unit = figure.dataset.unit;
    const number = (raw) => (raw === null || raw === undefined ? "–" : `${raw.toLocaleString("en")}${unit ? ` ${unit}` : ""}`);
    const axis = { stroke: style("--soft"), grid: { stroke: style("--line"), width: 1 }, ticks: { stroke: style("--line") }, font: "11px system-ui" };
    const series = heads.slice(1).map((head, index) => {
      const color = style(tones[head.dataset.tone] || strokes[index % strokes.length]);
      const dash = index % 3 === 1 ? [6, 3] : index % 3 === 2 ? [2, 3] : [];
      return {
        label: head.textContent, stroke: color, width: 1.5, dash: stacked ? [] : dash, spanGaps: true, points: { show: !stacked, size: 4 },
        fill: stacked ? `${color}55` : undefined,
        value: (_, __, ___, at) => (at === null || at === undefined ? "" : number(data[index + 1][at])),
      };
    });
    const chart = new uPlot({
      width: plot.clientWidth, height: 190, tzDate: (stamp) => uPlot.tzDate(new Date(stamp * 1000), "Etc/UTC"),
      cursor: { drag: { x: false, y: false } }, legend: { live: true },
      scales: { y: { range: (_, low, high) => [0, Math.max(high || 0, unit ? 0.1 : 1) * 1.1] } },
      axes: [
        { ...axis, values: (_, ticks) => ticks.map((tick) => clock(tick, span)) },
        { ...axis, size: 48, values: (_, ticks) => ticks.map((tick) => (tick >= 10000 ? `${tick / 1000}k` : tick.toLocaleString("en"))) },
      ],
      series: [{ label: "UTC", value: (_, stamp) => (stamp === null ? "" : new Date(stamp * 1000).toISOString().slice(5, 16).replace("T", " ")) }, ...series],
    }, shown, plot);
    chart.root.setAttribute("aria-hidden", "true");
    new ResizeObserver(() => chart.setSize({ width: plot.clientWidth, height: 190 })).observe(plot);
  };
  const charts = all("figure.chart:not([data-empty])");
  const redraw = () => {
    for (const figure of charts) {
      figure.querySelector(".plot").replaceChildren();
      draw(figure);
    }
  };
  // The library is loaded after this script.
  addEventListener("DOMContentLoaded", () => {
    if (window.uPlot) redraw();
    else for (const figure of charts) figure.querySelector("details").open = true;
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  });

  // The live tail.
  const tail = one("[data-stream]");
  if (tail) {
    const body = tail.querySelector("tbody");
    const state = one(".live");
    const pause = one("[data-pause]");
    const most = 300;
    let source = null;
    let last = "";
    let waiting = [];
    let paused = false;
    const show = (on, text) => { state.dataset.state = on ? "on" : "off"; state.textContent = text; };
    const link = (folder, id) => {
      const anchor = make("a", id.length > 20 ? `${id.slice(0, 4)}…${id.slice(-8)}` : id, "id");
      anchor.href = `${document.body.dataset.base}${folder}/${encodeURIComponent(id)}${tail.dataset.keep}`;
      anchor.title = id;
      return anchor;
    };
    const badge = (word) => {
      const [shape, tone] = { succeeded: ["✓", "good"], dead: ["✕", "bad"], cancelled: ["–", "off"] }[word] || ["◔", "wait"];
      const element = make("span", undefined, `badge ${tone}`);
      const mark = make("span", shape);
      mark.setAttribute("aria-hidden", "true");
      element.append(mark, ` ${word}`);
      return element;
    };
    const row = (kind, item) => {
      const line = make("tr");
      line.dataset.row = "";
      const cells = [];
      const at = item.started_at || item.ended_at || item.created_at || "";
      cells.push(at.slice(11, 23));
      if (kind === "event") {
        line.dataset.id = item.id;
        cells.push("event", item.event, link("events", item.id), "", `${item.subscribers_found} subscribers`);
      } else {
        const id = kind === "attempt" ? item.delivery_id : item.id;
        line.dataset.id = id;
        const code = kind === "attempt" ? item.response?.status ?? item.error?.kind : item.response_code ?? item.error_kind;
        const what = kind === "attempt" ? `attempt ${item.number}: ${code ?? ""}` : "ended";
        const result = make("span");
        result.append(badge(item.status), ` ${what}${kind === "attempt" ? ` in ${item.duration_ms < 10 ? item.duration_ms.toFixed(1) : Math.round(item.duration_ms)} ms` : ""}`);
        cells.push(kind, item.event, link("deliveries", id), link("subscribers", item.subscriber_id), result);
      }
      for (const cell of cells) {
        const column = make("td");
        column.append(cell);
        line.append(column);
      }
      return line;
    };
    const put = () => {
      if (paused || !waiting.length) return;
      const at = scrollY;
      body.prepend(...waiting.reverse());
      waiting = [];
      while (body.children.length > most) body.lastElementChild.remove();
      one("#tail-empty")?.remove();
      if (at > 200) scrollTo(0, at);
    };
    setInterval(put, 200);
    const open = () => {
      source = new EventSource(tail.dataset.stream);
      source.onopen = () => show(true, "Live");
      source.onerror = () => show(false, source.readyState === EventSource.CLOSED ? "Ended. Reload the page to go on." : "Connecting again …");
      for (const kind of ["event", "attempt", "delivery"]) {
        source.addEventListener(kind, (message) => {
          last = message.lastEventId;
          waiting.push(row(kind, JSON.parse(message.data)));
          if (waiting.length > most) waiting.shift();
          if (paused) show(false, `Paused, ${waiting.length} waiting`);
        });
      }
      source.addEventListener("left_out", (message) => {
        const { count, reason } = JSON.parse(message.data);
        const line = make("tr");
        const cell = make("td", `${count ?? "Some"} rows are left out (${reason})`, "quiet");
        cell.colSpan = 6;
        line.append(cell);
        waiting.push(line);
      });
      source.addEventListener("end", () => { source.close(); show(false, "Ended. Reload the page to go on."); });
    };
    pause.hidden = false;
    pause.addEventListener("click", () => {
      paused = !paused;
      pause.textContent = paused ? "Go on" : "Pause";
      pause.setAttribute("aria-pressed", String(paused));
      show(!paused, paused ? "Paused" : "Live");
      put();
    });
    open();
    addEventListener("pagehide", () => source?.close());
  }
})();
