// Drawing: the theme's colours, and what the charts have in common.
/* global echarts */

import { count } from "./words.js";

export const OUTCOMES = ["hit", "stale", "coalesced", "miss", "error", "bypass"];
const made = new Map();
export let look = {}; // the theme's colours, by name

// Reads the theme's colours; charts made before are drawn anew by the next frame.
export function restyle() {
  const style = getComputedStyle(document.documentElement);
  const names = [
    "ink",
    "soft",
    "line",
    "grid",
    "panel",
    "c1",
    "c2",
    "c3",
    "c4",
    "c5",
    "c6",
    ...OUTCOMES,
  ];
  look = Object.fromEntries(
    names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]),
  );
  for (const chart of made.values()) chart.dispose();
  made.clear();
}

export function resize() {
  for (const chart of made.values()) chart.resize();
}

// Draws a chart, or says that there is nothing to draw. `summary` is what is read out.
export function draw(id, option, { empty = "", summary = "" } = {}) {
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
  chart.setOption(
    { animation: false, textStyle: { color: look.soft, fontFamily: "inherit" }, ...option },
    { notMerge: true, lazyUpdate: true },
  );
}

export function axes({ unit, log = false, max }) {
  const label = { color: look.soft, fontSize: 11 };
  return {
    grid: { left: 8, right: 14, top: 34, bottom: 4, containLabel: true },
    legend: {
      top: 4,
      left: 0,
      itemWidth: 12,
      itemHeight: 8,
      itemGap: 12,
      icon: "roundRect",
      textStyle: { color: look.soft, fontSize: 12 },
      type: "scroll",
      pageTextStyle: { color: look.soft },
    },
    tooltip: tooltip({
      trigger: "axis",
      valueFormatter: (value) => (value == null ? "–" : unit(value)),
    }),
    xAxis: {
      type: "time",
      axisLine: { lineStyle: { color: look.line } },
      axisLabel: { ...label, hideOverlap: true },
      splitNumber: 4,
    },
    yAxis: {
      type: log ? "log" : "value",
      min: log ? undefined : 0,
      max,
      interval: max ? max / 4 : undefined,
      minInterval: unit === count ? 1 : 0,
      splitNumber: 4,
      axisLabel: { ...label, formatter: unit },
      splitLine: { lineStyle: { color: look.grid } },
    },
  };
}

// Drawn on the canvas: HTML of ECharts' own would need inline styles, which the page forbids.
export function tooltip(more) {
  return {
    renderMode: "richText",
    confine: true,
    backgroundColor: look.panel,
    borderColor: look.line,
    textStyle: { color: look.ink, fontSize: 12 },
    axisPointer: { lineStyle: { color: look.soft } },
    ...more,
  };
}

export function line(name, data, hue, more = {}) {
  return {
    name,
    type: "line",
    data,
    showSymbol: false,
    symbolSize: 5,
    connectNulls: true,
    lineStyle: { width: 2 },
    itemStyle: { color: hue },
    ...more,
  };
}

// Horizontal bars, the longest first.
export function bars(id, pairs, { unit = count, hue, max, empty, tail = () => "" }) {
  const rows = pairs
    .sort((one, other) => other[1] - one[1])
    .slice(0, 10)
    .reverse();
  const label = { color: look.ink, fontSize: 12 };
  draw(
    id,
    {
      grid: { left: 4, right: 64, top: 8, bottom: 4, containLabel: true },
      tooltip: tooltip({ valueFormatter: unit }),
      xAxis: { type: "value", max, show: false },
      yAxis: {
        type: "category",
        data: rows.map(([name]) => name),
        axisTick: { show: false },
        axisLine: { show: false },
        axisLabel: { ...label, width: 170, overflow: "truncate" },
      },
      series: [
        {
          type: "bar",
          barMaxWidth: 18,
          data: rows.map(([, value]) => value),
          itemStyle: { color: hue, borderRadius: [0, 4, 4, 0] },
          label: {
            show: true,
            position: "right",
            color: look.ink,
            fontSize: 12,
            formatter: ({ dataIndex }) => unit(rows[dataIndex][1]) + tail(rows[dataIndex]),
          },
        },
      ],
    },
    {
      empty: rows.length ? "" : empty,
      summary: [...rows]
        .reverse()
        .map(([name, value]) => `${name} ${unit(value)}`)
        .join(", "),
    },
  );
}

export function histogram(id, spread, unit) {
  const names = spread.bounds
    .map((bound, place) => (place === 0 && bound === 0 ? "over" : `≤ ${unit(bound)}`))
    .concat(`> ${unit(spread.bounds.at(-1))}`);
  const sum = spread.counts.reduce((one, other) => one + other, 0);
  draw(
    id,
    {
      grid: { left: 4, right: 8, top: 20, bottom: 4, containLabel: true },
      tooltip: tooltip({ valueFormatter: count }),
      xAxis: {
        type: "category",
        data: names,
        axisTick: { show: false },
        axisLine: { lineStyle: { color: look.line } },
        axisLabel: { color: look.soft, fontSize: 11, interval: 0, rotate: 38 },
      },
      yAxis: {
        type: "value",
        minInterval: 1,
        splitNumber: 3,
        axisLabel: { color: look.soft, fontSize: 11, formatter: count },
        splitLine: { lineStyle: { color: look.grid } },
      },
      series: [
        {
          type: "bar",
          barCategoryGap: "18%",
          data: spread.counts,
          itemStyle: { color: look.c1, borderRadius: [4, 4, 0, 0] },
        },
      ],
    },
    {
      empty: sum ? "" : "No answers are stored",
      summary: names.map((name, place) => `${name}: ${spread.counts[place]}`).join(", "),
    },
  );
}
