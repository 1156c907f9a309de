// The charts: what each shows, as ECharts options made of the points of the window.
/* global echarts */

import { bytes, count, percent, seconds } from "./words.js";

const LAYERS = [["result", "answers"], ["route", "decisions"], ["meta", "metadata"], ["load", "load"]];
const OUTCOMES = ["hit", "stale", "coalesced", "miss", "error", "bypass"];
const WORDS = { hit: "hit", stale: "stale", coalesced: "shared", miss: "miss", error: "error", bypass: "bypass" };
const made = new Map();
let look = {};

export function color(name) {
  return look[name] ?? "#888";
}

// Reads the theme's colours; charts made before are drawn anew by the next frame.
export function restyle() {
  const style = getComputedStyle(document.documentElement);
  const names = ["ink", "soft", "line", "grid", "panel", "c1", "c2", "c3", "c4", "c5", "c6", ...OUTCOMES];
  look = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  for (const chart of made.values()) chart.dispose();
  made.clear();
}

export function resize() {
  for (const chart of made.values()) chart.resize();
}

// Draws a chart, or says that there is nothing to draw. `summary` is what is read out.
function draw(id, option, { empty = "", summary = "" } = {}) {
  const place = document.getElementById(id);
  place.setAttribute("role", "img");
  place.setAttribute("aria-label", summary || empty);
  let note = place.parentElement.querySelector(".empty");
  if (!note) {
    note = document.createElement("div");
    note.className = "empty";
    place.parentElement.append(note);
  }
  note.textContent = empty;
  note.hidden = !empty;
  if (!made.has(id)) made.set(id, echarts.init(place, null, { renderer: "canvas" }));
  const chart = made.get(id);
  if (empty) {
    chart.clear();
    return;
  }
  chart.setOption({ animation: false, textStyle: { color: look.soft, fontFamily: "inherit" }, ...option }, { notMerge: true, lazyUpdate: true });
}

function axes({ unit, log = false, max }) {
  const label = { color: look.soft, fontSize: 11 };
  return {
    grid: { left: 8, right: 14, top: 34, bottom: 4, containLabel: true },
    legend: { top: 4, left: 0, itemWidth: 12, itemHeight: 8, itemGap: 12, icon: "roundRect", textStyle: { color: look.soft, fontSize: 12 }, type: "scroll", pageTextStyle: { color: look.soft } },
    tooltip: tooltip({ trigger: "axis", valueFormatter: (value) => (value == null ? "–" : unit(value)) }),
    xAxis: { type: "time", axisLine: { lineStyle: { color: look.line } }, axisLabel: { ...label, hideOverlap: true }, splitNumber: 4 },
    yAxis: { type: log ? "log" : "value", min: log ? undefined : 0, max, interval: max ? max / 4 : undefined, minInterval: unit === count ? 1 : 0, splitNumber: 4, axisLabel: { ...label, formatter: unit }, splitLine: { lineStyle: { color: look.grid } } },
  };
}

// Drawn on the canvas: HTML of ECharts' own would need inline styles, which the page forbids.
function tooltip(more) {
  return { renderMode: "richText", confine: true, backgroundColor: look.panel, borderColor: look.line, textStyle: { color: look.ink, fontSize: 12 }, axisPointer: { lineStyle: { color: look.soft } }, ...more };
}

function line(name, data, hue, more = {}) {
  return { name, type: "line", data, showSymbol: false, symbolSize: 5, connectNulls: true, lineStyle: { width: 2 }, itemStyle: { color: hue }, ...more };
}

const at = (point) => point.t * 1000;

export function rateOf(outcomes) {
  const served = (outcomes.hit ?? 0) + (outcomes.stale ?? 0);
  const asked = served + (outcomes.miss ?? 0) + (outcomes.coalesced ?? 0) + (outcomes.error ?? 0);
  return asked ? served / asked : null;
}

export function drawTimes(points, total, layer) {
  const layers = LAYERS.filter(([name]) => total.lookups?.[name]);
  const rates = layers.map(([name, words], place) => line(words, points.map((point) => [at(point), rateOf(point.lookups?.[name] ?? {})]), look[`c${place + 1}`]));
  const quiet = "Nothing was asked in this time";
  const said = layers.map(([name, words]) => `${words} ${percent(rateOf(total.lookups[name]))}`).join(", ");
  draw("c-rate", { ...axes({ unit: percent, max: 1 }), series: rates }, { empty: rates.length ? "" : quiet, summary: `Hit rate: ${said}` });

  const sums = total.lookups?.result ?? {};
  const stacked = OUTCOMES.filter((name) => sums[name]).map((name) => line(WORDS[name], points.map((point) => [at(point), point.lookups?.result?.[name] ?? 0]), look[name], { stack: "all", lineStyle: { width: 0 }, areaStyle: { opacity: 0.85 }, connectNulls: false }));
  draw("c-outcomes", { ...axes({ unit: count }), series: stacked }, { empty: stacked.length ? "" : quiet, summary: OUTCOMES.map((name) => `${WORDS[name]} ${sums[name] ?? 0}`).join(", ") });

  const measured = points.map((point) => [point, point.latency?.[layer]?.hit]);
  const any = total.latency?.[layer]?.hit?.length;
  const lines = ["p50", "p95", "p99"].map((name, place) => line(name, measured.map(([point, found]) => [at(point), found?.[place] ?? null]), look[`c${place + 1}`]));
  draw("c-latency", { ...axes({ unit: seconds }), series: lines }, { empty: any ? "" : "No hits in this time", summary: any ? `p50, p95, p99: ${total.latency[layer].hit.map(seconds).join(", ")}` : "" });

  const faster = total.without_s && total.with_s ? `, ${count(total.without_s / total.with_s)} times as long` : "";
  const both = [
    line("without", points.map((point) => [at(point), point.without_s || null]), look.miss),
    line("with", points.map((point) => [at(point), point.with_s || null]), look.hit),
  ];
  draw("c-versus", { ...axes({ unit: seconds, log: true }), series: both }, { empty: total.with_s ? "" : "No hits in this time", summary: total.with_s ? `A hit takes ${seconds(total.with_s)}; its answer once took ${seconds(total.without_s ?? 0)}${faster}` : "" });

  const waits = [
    line("p50", points.map((point) => [at(point), point.wait?.[0] ?? null]), look.c1),
    line("p99", points.map((point) => [at(point), point.wait?.[2] ?? null]), look.c3),
    { name: "waited", type: "bar", yAxisIndex: 1, data: points.map((point) => [at(point), point.waits ?? 0]), itemStyle: { color: look.coalesced, opacity: 0.35 } },
  ];
  const twofold = axes({ unit: seconds });
  twofold.yAxis = [twofold.yAxis, { ...axes({ unit: count }).yAxis, position: "right", splitLine: { show: false } }];
  twofold.tooltip.valueFormatter = (value) => (value == null ? "–" : String(Math.round(value * 1000) / 1000));
  draw("c-waits", { ...twofold, series: waits }, { empty: total.waits ? "" : "Nobody waited in this time", summary: `${total.waits ?? 0} waited` });

  const troubles = [["evictions", "evictions", look.c3], ["errors", "backend errors", look.error], ["write_errors", "failed writes", look.c4]];
  const sum = troubles.reduce((all, [name]) => all + (total[name] ?? 0), 0);
  draw("c-errors", { ...axes({ unit: count }), series: troubles.map(([name, words, hue]) => line(words, points.map((point) => [at(point), point[name] ?? 0]), hue)) }, { empty: sum ? "" : "None in this time", summary: troubles.map(([name, words]) => `${words} ${total[name] ?? 0}`).join(", ") });
}

// Horizontal bars, the longest first.
function bars(id, pairs, { unit = count, hue, max, empty, tail = () => "" }) {
  const rows = pairs.sort((one, other) => other[1] - one[1]).slice(0, 10).reverse();
  const label = { color: look.ink, fontSize: 12 };
  draw(id, {
    grid: { left: 4, right: 64, top: 8, bottom: 4, containLabel: true },
    tooltip: tooltip({ valueFormatter: unit }),
    xAxis: { type: "value", max, show: false },
    yAxis: { type: "category", data: rows.map(([name]) => name), axisTick: { show: false }, axisLine: { show: false }, axisLabel: { ...label, width: 170, overflow: "truncate" } },
    series: [{ type: "bar", barMaxWidth: 18, data: rows.map(([, value]) => value), itemStyle: { color: hue, borderRadius: [0, 4, 4, 0] }, label: { show: true, position: "right", color: look.ink, fontSize: 12, formatter: ({ dataIndex }) => unit(rows[dataIndex][1]) + tail(rows[dataIndex]) } }],
  }, { empty: rows.length ? "" : empty, summary: [...rows].reverse().map(([name, value]) => `${name} ${unit(value)}`).join(", ") });
}

export function drawReasons(total) {
  bars("c-bypass", Object.entries(total.bypasses ?? {}), { hue: look.bypass, empty: "Everything was looked up" });
  const misses = Object.entries(total.misses ?? {}).flatMap(([layer, reasons]) => Object.entries(reasons).map(([reason, value]) => [layer === "result" ? reason : `${layer}: ${reason}`, value]));
  bars("c-miss", misses, { hue: look.miss, empty: "Nothing was missed" });
  const models = Object.entries(total.models ?? {}).filter(([, [, asked]]) => asked).map(([name, [served, asked]]) => [name === "_OTHER" ? "others" : name, served / asked, asked]);
  bars("c-models", models, { unit: percent, hue: look.hit, max: 1, empty: "No requests in this time", tail: ([, , asked]) => ` of ${count(asked)}` });
}

function histogram(id, spread, unit) {
  const names = spread.bounds.map((bound, place) => (place === 0 && bound === 0 ? "over" : `≤ ${unit(bound)}`)).concat(`> ${unit(spread.bounds.at(-1))}`);
  const sum = spread.counts.reduce((one, other) => one + other, 0);
  draw(id, {
    grid: { left: 4, right: 8, top: 20, bottom: 4, containLabel: true },
    tooltip: tooltip({ valueFormatter: count }),
    xAxis: { type: "category", data: names, axisTick: { show: false }, axisLine: { lineStyle: { color: look.line } }, axisLabel: { color: look.soft, fontSize: 11, interval: 0, rotate: 38 } },
    yAxis: { type: "value", minInterval: 1, splitNumber: 3, axisLabel: { color: look.soft, fontSize: 11, formatter: count }, splitLine: { lineStyle: { color: look.grid } } },
    series: [{ type: "bar", barCategoryGap: "18%", data: spread.counts, itemStyle: { color: look.c1, borderRadius: [4, 4, 0, 0] } }],
  }, { empty: sum ? "" : "No answers are stored", summary: names.map((name, place) => `${name}: ${spread.counts[place]}`).join(", ") });
}

export function drawStored(found) {
  const tenants = new Map();
  for (const share of found.shares) {
    const name = share.tenant || "everybody";
    if (!tenants.has(name)) tenants.set(name, []);
    tenants.get(name).push({ name: share.model || "unnamed", value: share.bytes, entries: share.entries });
  }
  const data = [...tenants].map(([name, children], place) => {
    const hue = look[`c${(place % 6) + 1}`];
    return { name, children, itemStyle: { color: hue, borderColor: hue } }; // the border holds the name
  });
  draw("c-tree", {
    tooltip: tooltip({ formatter: ({ treePathInfo, value, data: one }) => `${treePathInfo.slice(1).map(({ name }) => name).join(" > ")}: ${bytes(value)}${one.entries ? `, ${count(one.entries)} entries` : ""}` }),
    series: [{ type: "treemap", data, roam: false, nodeClick: false, breadcrumb: { show: false }, left: 0, right: 0, top: 8, bottom: 4, visibleMin: 1, upperLabel: { show: true, height: 20, color: look.panel, fontSize: 12 }, label: { color: look.panel, fontSize: 12 }, itemStyle: { borderColor: look.panel, gapWidth: 2 }, levels: [{ itemStyle: { gapWidth: 3, borderWidth: 0 }, upperLabel: { show: false } }, { itemStyle: { gapWidth: 1, borderWidth: 2 }, upperLabel: { show: true } }] }],
  }, { empty: data.length ? "" : "Nothing is stored", summary: found.shares.map((share) => `${share.tenant || "everybody"}, ${share.model}: ${bytes(share.bytes)}`).join("; ") });
  histogram("c-ttl", found.ttl_s, seconds);
  histogram("c-size", found.size_bytes, bytes);
  histogram("c-age", found.age_s, seconds);
  const last = found.concentration.at(-1);
  draw("c-zipf", {
    ...axes({ unit: percent, max: 1 }), legend: { show: false },
    grid: { left: 4, right: 16, top: 16, bottom: 18, containLabel: true },
    xAxis: { type: "log", min: 1, max: last && last[0] > 1 ? last[0] : 10, name: "answers", nameLocation: "middle", nameGap: 22, nameTextStyle: { color: look.soft }, axisLabel: { color: look.soft, fontSize: 11, formatter: count }, splitLine: { show: false }, axisLine: { lineStyle: { color: look.line } } },
    tooltip: tooltip({ trigger: "axis", valueFormatter: percent }),
    series: [line("share of hits", found.concentration, look.c1, { showSymbol: true })],
  }, { empty: last ? "" : "No hits were counted yet", summary: found.concentration.map(([place, share]) => `the first ${place}: ${percent(share)}`).join(", ") });
}
