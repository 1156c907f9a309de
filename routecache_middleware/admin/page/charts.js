// The charts: what each shows, as ECharts options made of the points of the window.

import { axes, bars, draw, histogram, line, look, OUTCOMES, tooltip } from "./drawing.js";
import { bytes, count, percent, seconds } from "./words.js";

const LAYERS = [
  ["result", "answers"],
  ["route", "decisions"],
  ["meta", "metadata"],
  ["load", "load"],
];
const QUIET = "Nothing was asked in this time";
const NO_HITS = "No hits in this time";
const WORDS = {
  hit: "hit",
  stale: "stale",
  coalesced: "shared",
  miss: "miss",
  error: "error",
  bypass: "bypass",
};
const at = (point) => point.t * 1000;

export function rateOf(outcomes) {
  const served = (outcomes.hit ?? 0) + (outcomes.stale ?? 0);
  const asked = served + (outcomes.miss ?? 0) + (outcomes.coalesced ?? 0) + (outcomes.error ?? 0);
  return asked ? served / asked : null;
}

// All that moves with time. `total` is the whole window in one point.
export function drawTimes(points, total, layer) {
  drawRates(points, total);
  drawOutcomes(points, total);
  drawLatency(points, total, layer);
  drawVersus(points, total);
  drawWaits(points, total);
  drawTroubles(points, total);
}

// The series of one figure of all points.
const over = (points, figure) => points.map((point) => [at(point), figure(point)]);

function drawRates(points, total) {
  const layers = LAYERS.filter(([name]) => total.lookups?.[name]);
  const rates = layers.map(([name, words], place) =>
    line(
      words,
      over(points, (point) => rateOf(point.lookups?.[name] ?? {})),
      look[`c${place + 1}`],
    ),
  );
  const said = layers
    .map(([name, words]) => `${words} ${percent(rateOf(total.lookups[name]))}`)
    .join(", ");
  draw(
    "c-rate",
    { ...axes({ unit: percent, max: 1 }), series: rates },
    { empty: rates.length ? "" : QUIET, summary: `Hit rate: ${said}` },
  );
}

function drawOutcomes(points, total) {
  const sums = total.lookups?.result ?? {};
  const stacked = OUTCOMES.filter((name) => sums[name]).map((name) =>
    line(
      WORDS[name],
      over(points, (point) => point.lookups?.result?.[name] ?? 0),
      look[name],
      { stack: "all", lineStyle: { width: 0 }, areaStyle: { opacity: 0.85 }, connectNulls: false },
    ),
  );
  draw(
    "c-outcomes",
    { ...axes({ unit: count }), series: stacked },
    {
      empty: stacked.length ? "" : QUIET,
      summary: OUTCOMES.map((name) => `${WORDS[name]} ${sums[name] ?? 0}`).join(", "),
    },
  );
}

function drawLatency(points, total, layer) {
  const measured = points.map((point) => [point, point.latency?.[layer]?.hit]);
  const any = total.latency?.[layer]?.hit?.length;
  const lines = ["p50", "p95", "p99"].map((name, place) =>
    line(
      name,
      measured.map(([point, found]) => [at(point), found?.[place] ?? null]),
      look[`c${place + 1}`],
    ),
  );
  draw(
    "c-latency",
    { ...axes({ unit: seconds }), series: lines },
    {
      empty: any ? "" : NO_HITS,
      summary: any ? `p50, p95, p99: ${total.latency[layer].hit.map(seconds).join(", ")}` : "",
    },
  );
}

function drawVersus(points, total) {
  const faster =
    total.without_s && total.with_s
      ? `, ${count(total.without_s / total.with_s)} times as long`
      : "";
  const both = [
    line(
      "without",
      over(points, (point) => point.without_s || null),
      look.miss,
    ),
    line(
      "with",
      over(points, (point) => point.with_s || null),
      look.hit,
    ),
  ];
  draw(
    "c-versus",
    { ...axes({ unit: seconds, log: true }), series: both },
    {
      empty: total.with_s ? "" : NO_HITS,
      summary: total.with_s
        ? `A hit takes ${seconds(total.with_s)}; its answer once took ${seconds(total.without_s ?? 0)}${faster}`
        : "",
    },
  );
}

function drawWaits(points, total) {
  const waits = [
    line(
      "p50",
      over(points, (point) => point.wait?.[0] ?? null),
      look.c1,
    ),
    line(
      "p99",
      over(points, (point) => point.wait?.[2] ?? null),
      look.c3,
    ),
    {
      name: "waited",
      type: "bar",
      yAxisIndex: 1,
      data: over(points, (point) => point.waits ?? 0),
      itemStyle: { color: look.coalesced, opacity: 0.35 },
    },
  ];
  const twofold = axes({ unit: seconds });
  twofold.yAxis = [
    twofold.yAxis,
    { ...axes({ unit: count }).yAxis, position: "right", splitLine: { show: false } },
  ];
  twofold.tooltip.valueFormatter = (value) =>
    value == null ? "–" : String(Math.round(value * 1000) / 1000);
  draw(
    "c-waits",
    { ...twofold, series: waits },
    {
      empty: total.waits ? "" : "Nobody waited in this time",
      summary: `${total.waits ?? 0} waited`,
    },
  );
}

function drawTroubles(points, total) {
  const troubles = [
    ["evictions", "evictions", look.c3],
    ["errors", "backend errors", look.error],
    ["write_errors", "failed writes", look.c4],
  ];
  const sum = troubles.reduce((all, [name]) => all + (total[name] ?? 0), 0);
  draw(
    "c-errors",
    {
      ...axes({ unit: count }),
      series: troubles.map(([name, words, hue]) =>
        line(
          words,
          over(points, (point) => point[name] ?? 0),
          hue,
        ),
      ),
    },
    {
      empty: sum ? "" : "None in this time",
      summary: troubles.map(([name, words]) => `${words} ${total[name] ?? 0}`).join(", "),
    },
  );
}

export function drawReasons(total) {
  bars("c-bypass", Object.entries(total.bypasses ?? {}), {
    hue: look.bypass,
    empty: "Everything was looked up",
  });
  const misses = Object.entries(total.misses ?? {}).flatMap(([layer, reasons]) =>
    Object.entries(reasons).map(([reason, value]) => [
      layer === "result" ? reason : `${layer}: ${reason}`,
      value,
    ]),
  );
  bars("c-miss", misses, { hue: look.miss, empty: "Nothing was missed" });
  const models = Object.entries(total.models ?? {})
    .filter(([, [, asked]]) => asked)
    .map(([name, [served, asked]]) => [name === "_OTHER" ? "others" : name, served / asked, asked]);
  bars("c-models", models, {
    unit: percent,
    hue: look.hit,
    max: 1,
    empty: "No requests in this time",
    tail: ([, , asked]) => ` of ${count(asked)}`,
  });
}

export function drawStored(found) {
  const tenants = new Map();
  for (const share of found.shares) {
    const name = share.tenant || "everybody";
    if (!tenants.has(name)) tenants.set(name, []);
    tenants
      .get(name)
      .push({ name: share.model || "unnamed", value: share.bytes, entries: share.entries });
  }
  const data = [...tenants].map(([name, children], place) => {
    const hue = look[`c${(place % 6) + 1}`];
    return { name, children, itemStyle: { color: hue, borderColor: hue } }; // the border holds the name
  });
  draw(
    "c-tree",
    {
      tooltip: tooltip({
        formatter: ({ treePathInfo, value, data: one }) =>
          `${treePathInfo
            .slice(1)
            .map(({ name }) => name)
            .join(" > ")}: ${bytes(value)}${one.entries ? `, ${count(one.entries)} entries` : ""}`,
      }),
      series: [
        {
          type: "treemap",
          data,
          roam: false,
          nodeClick: false,
          breadcrumb: { show: false },
          left: 0,
          right: 0,
          top: 8,
          bottom: 4,
          visibleMin: 1,
          upperLabel: { show: true, height: 20, color: look.panel, fontSize: 12 },
          label: { color: look.panel, fontSize: 12 },
          itemStyle: { borderColor: look.panel, gapWidth: 2 },
          levels: [
            { itemStyle: { gapWidth: 3, borderWidth: 0 }, upperLabel: { show: false } },
            { itemStyle: { gapWidth: 1, borderWidth: 2 }, upperLabel: { show: true } },
          ],
        },
      ],
    },
    {
      empty: data.length ? "" : "Nothing is stored",
      summary: found.shares
        .map((share) => `${share.tenant || "everybody"}, ${share.model}: ${bytes(share.bytes)}`)
        .join("; "),
    },
  );
  histogram("c-ttl", found.ttl_s, seconds);
  histogram("c-size", found.size_bytes, bytes);
  histogram("c-age", found.age_s, seconds);
  const last = found.concentration.at(-1);
  draw(
    "c-zipf",
    {
      ...axes({ unit: percent, max: 1 }),
      legend: { show: false },
      grid: { left: 4, right: 16, top: 16, bottom: 18, containLabel: true },
      xAxis: {
        type: "log",
        min: 1,
        max: last && last[0] > 1 ? last[0] : 10,
        name: "answers",
        nameLocation: "middle",
        nameGap: 22,
        nameTextStyle: { color: look.soft },
        axisLabel: { color: look.soft, fontSize: 11, formatter: count },
        splitLine: { show: false },
        axisLine: { lineStyle: { color: look.line } },
      },
      tooltip: tooltip({ trigger: "axis", valueFormatter: percent }),
      series: [line("share of hits", found.concentration, look.c1, { showSymbol: true })],
    },
    {
      empty: last ? "" : "No hits were counted yet",
      summary: found.concentration
        .map(([place, share]) => `the first ${place}: ${percent(share)}`)
        .join(", "),
    },
  );
}
