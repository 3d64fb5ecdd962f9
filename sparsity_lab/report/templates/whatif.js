"use strict";
// What if? The law and the prices are data (#whatif-payload); the formulas are those of sparsity_lab/cost/economics.py.
const whatif = (() => {
  const given = JSON.parse(document.getElementById("whatif-payload").textContent);
  const KINDS = given.existing ? ["train-sparse", "prune-existing"] : ["train-sparse"];

  // ---- the law: a sum of A N^n D^d S^s (1 - k S)^p …, the best one or a draw; `after` tells of pruned checkpoints
  let law = given.law;
  function under(one, compute) {
    law = one;
    try { return compute(); } finally { law = given.law; }
  }
  const power = (base, exponent) => (exponent === 0 ? 1 : Math.pow(base, exponent));
  const recovered = ([unit, exponent], D) => power(1 + unit / (D + unit), exponent);
  const term = (one, S, N, D) =>
    one.shares.reduce((value, [k, p]) => value * power(1 - k * S, p),
      one.amplitude * power(N, one.nonzero) * power(D, one.data) * power(S, one.sparsity)
      * (one.recovery ? recovered(one.recovery, D) : 1));
  const summed = (terms, S, N, D) => terms.reduce((sum, one) => sum + term(one, S, N, D), 0);
  const loss = (S, N, D) => summed(law.terms, S, N, D);

  // ---- the least amount, in its log, with which a loss is reached; infinity where none is enough
  function needed(lossOf, target) {
    let low = 0, high = Math.log(1e60);
    if (lossOf(Math.exp(high)) > target) return Infinity;
    for (let halving = 0; halving < 100; halving++) {
      const middle = (low + high) / 2;
      if (lossOf(Math.exp(middle)) > target) low = middle; else high = middle;
    }
    return Math.exp((low + high) / 2);
  }
  function equalQualitySize(S, N, D) {
    if (!law.size_alone) return needed((size) => loss(S, size, D), loss(0, N, D));
    const sized = law.terms.filter((one) => one.nonzero !== 0);
    const factor = (at) => sized.reduce((sum, one) => sum + term(one, at, 1, 1), 0);
    return N * Math.pow(factor(S) / factor(0), -1 / sized[0].nonzero);
  }

  // ---- tables: the log of the value is linear in -ln(1 - S)
  function interpolated(table, S) {
    const depth = (at) => -Math.log1p(-at), at = depth(S), last = table.sparsity.length - 1;
    if (S <= table.sparsity[0]) return table.value[0];
    if (S >= table.sparsity[last]) return table.value[last];
    let next = 1;
    while (table.sparsity[next] < S) next++;
    const from = depth(table.sparsity[next - 1]), to = depth(table.sparsity[next]);
    const [before, after] = [Math.log(table.value[next - 1]), Math.log(table.value[next])];
    return Math.exp(before + ((at - from) / (to - from)) * (after - before));
  }
  const trainingCost = (m, S) => ("progress" in m ? (1 - m.progress * S) / (1 - S) : interpolated(m, S));
  function worth(S) {
    const levels = given.existing.worth.map(([level]) => level);
    if (S < levels[0] || S > levels[levels.length - 1]) return NaN;
    return interpolated({ sparsity: levels, value: given.existing.worth.map(([, rho]) => rho) }, S);
  }

  // ---- options and their costs
  const isPaid = (set) => given.existing !== null && given.existing.paid && given.existing.weights === set.nonzero;
  function option(kind, S, set) {
    const profile = given.profiles[set.hardware], target = loss(0, set.nonzero, set.data);
    const shared = { kind, sparsity: S, m: trainingCost(profile.training, S), r: interpolated(profile.inference, S) };
    switch (kind) {
      case "dense":
        return { ...shared, m: 1, r: 1, nonzero: set.nonzero, data: isPaid(set) ? 0 : set.data, pretraining: 0 };
      case "train-sparse":
        return { ...shared, nonzero: equalQualitySize(S, set.nonzero, set.data), data: set.data, pretraining: 0 };
      case "prune-existing": {
        const nonzero = given.existing.weights * (1 - S);
        const data = law.after ? needed((amount) => summed(law.after, S, nonzero, amount), target)
          : needed((amount) => loss(S, nonzero, amount), target) / worth(S);
        return { ...shared, nonzero, data, pretraining: given.existing.pretraining };
      }
      default:
        throw new Error(`no such option: ${kind}`);
    }
  }
  const inferenceSeconds = (one) => (2 * one.nonzero / (1 - one.sparsity)) * one.r / given.inference_flops_per_second;
  function cost(one, set) {
    const people = one.kind === "dense" ? 0 : 1;
    const training = (6 * one.nonzero * one.m * one.data + one.pretraining) / given.flops_per_second;
    const inference = inferenceSeconds(one);
    if (!Number.isFinite(training) || !Number.isFinite(inference)) return { training, inference, total: Infinity };
    const yearly = given.runs_per_year * training / 3600 * given.hour
      + set.items * inference / 3600 * given.inference_hour + people * given.days_per_year * given.day_cost;
    return { training, inference, total: people * given.days * given.day_cost + given.annuity * yearly };
  }
  function breakEvenItems(one, dense, set) {
    const saved = cost(dense, set).total - cost(one, set).total;
    if (!Number.isFinite(saved)) return { side: "never", value: null };
    const slope = given.annuity * given.inference_hour / 3600 * (inferenceSeconds(dense) - inferenceSeconds(one));
    const without = saved - slope * set.items;
    if (without > 0) return slope < 0 ? { side: "below", value: -without / slope } : { side: "always", value: null };
    return slope > 0 ? { side: "above", value: -without / slope } : { side: "never", value: null };
  }
  // ---- data from which a sparse model makes better use of its training cost than a dense one of as many weights
  function requiredData({ kind, sparsity, nonzero, m, data }) {
    if (kind !== "train-sparse") return data;
    const isDenseBetter = (log) => loss(sparsity, nonzero, Math.exp(log)) > loss(0, nonzero, m * Math.exp(log));
    let low = 0, high = Math.log(1e30);
    if (isDenseBetter(high)) return Infinity;
    for (let halving = 0; halving < 100; halving++) {
      const middle = (low + high) / 2;
      if (isDenseBetter(middle)) low = middle; else high = middle;
    }
    return Math.exp((low + high) / 2);
  }
  function stands(one) {
    if (one.kind !== "dense" && !given.runs) return false;
    const available = given.available === null ? Infinity : given.available;
    if (one.kind !== "train-sparse") return Number.isFinite(one.data) && one.data <= available;
    if (!Number.isFinite(one.nonzero) || one.data > available) return false;
    return one.data >= requiredData(one) || one.data * one.m > available;
  }
  function evaluate(set, kind = "train-sparse") {
    const dense = option("dense", 0, set), sparse = option(kind, set.sparsity, set);
    const [before, after] = [cost(dense, set), cost(sparse, set)];
    return {
      target: loss(0, set.nonzero, set.data), same_size: loss(set.sparsity, set.nonzero, set.data), dense: before,
      sparse: after, nonzero: sparse.nonzero, data: sparse.data, npv: before.total - after.total,
      break_even: breakEvenItems(sparse, dense, set), required: requiredData(sparse), stands: stands(sparse),
    };
  }
  // ---- the same under every draw of the law: ends are draws, as `cost.candidates.interval` has them
  function ends(values) {
    const known = values.filter((one) => !Number.isNaN(one)).sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
    const tail = (1 - given.confidence) / 2, last = known.length - 1;
    return last < 0 ? null : [known[Math.round(tail * last)], known[Math.round((1 - tail) * last)]];
  }
  const drawn = (compute) => given.draws.map((one) => under(one, compute));
  function band(set, kind = "train-sparse") {
    if (!given.draws.length) return null;
    const found = drawn(() => evaluate(set, kind));
    const pays = found.filter((one) => one.stands && one.npv > 0).length / found.length;
    return { npv: ends(found.map((one) => one.npv)), same_size: ends(found.map((one) => one.same_size)), share: pays };
  }
  // ---- every type of the weights, dense (S = 0) and at each sparsity, at equal quality
  function inType(type, place, set) {
    const S = place ? given.sparsities[place - 1] : 0, own = option(place ? "train-sparse" : "dense", S, set);
    const target = loss(0, set.nonzero, set.data) - type.loss_added;
    const equal = equalQualitySize(S, set.nonzero, set.data);
    const nonzero = type.loss_added ? needed((size) => loss(S, size, set.data), target)
      : type.law ? needed((size) => summed(type.law.here, 0, size, set.data), summed(type.law.own, 0, equal, set.data))
      : equal / type.rho;
    const one = { ...own, nonzero, data: !place && type === given.types[0] ? own.data : set.data, r: own.r * type.factors[place] };
    const total = cost(one, set).total + type.days * given.day_cost;
    return { name: type.name, sparsity: S, total, runs: type.runs[place] };
  }
  function inTypes(set) {
    return given.types.flatMap((type) =>
      type.factors.flatMap((factor, place) => (factor === null ? [] : [inType(type, place, set)])));
  }
  function recommend(set) {
    const found = recommendInOwnType(set), rows = inTypes(set).filter((row) => row.runs);
    const least = (some) => some.reduce((best, row) => (best && best.total <= row.total ? best : row), null);
    const dense = least(rows.filter((row) => row.sparsity === 0)), sparse = least(rows.filter((row) => row.sparsity > 0));
    if (!dense) return found;
    const cheapest = Math.min(sparse ? sparse.total : Infinity, rows[0].total - found.npv);
    if (found.choice !== "stay-dense" && cheapest < dense.total) return found;
    const npv = rows[0].total - dense.total;
    return npv > 0 ? { choice: "quantise", sparsity: 0, npv, dtype: dense.name } : { choice: "stay-dense", sparsity: 0, npv: 0 };
  }
  function recommendInOwnType(set) {
    const best = { choice: "stay-dense", sparsity: 0, npv: 0 };
    for (const kind of KINDS)
      for (const sparsity of given.sparsities) {
        const { npv, stands } = evaluate({ ...set, sparsity }, kind);
        if (stands && npv > best.npv) Object.assign(best, { choice: kind, sparsity, npv });
      }
    return best;
  }

  // ---- the page
  const at = (id) => document.getElementById(`whatif-${id}`), words = given.words;
  const said = (text, parts) => words[text].replace(/\{(\w+)\}/g, (_, name) => parts[name]);
  function count(value) {
    if (!Number.isFinite(value)) return words.endless;
    const rounded = Number(value.toPrecision(3)), steps = [[1e15, "e15"], [1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]];
    const [size, suffix] = steps.find(([least]) => Math.abs(rounded) >= least) || [1, ""];
    return Number((rounded / size).toPrecision(3)) + suffix;
  }
  const percent = (share) => `${Number((100 * share).toPrecision(3))}\u00a0%`;
  const money = (value) =>
    Number.isFinite(value) ? `${value < 0 ? "\u2212" : ""}${given.currency}\u00a0${count(Math.abs(value))}` : words.endless;
  const nats = (value) => `${value.toFixed(4)} ${words.nats}`;
  function duration(seconds) {
    if (!Number.isFinite(seconds)) return words.endless;
    const [size, unit] = [[86400, "d"], [3600, "h"], [60, "min"]].find(([least]) => seconds >= 2 * least) || [1, "s"];
    return `${Number((seconds / size).toPrecision(3))} ${unit}`;
  }
  const shown = {
    nonzero: (value) => `${count(value)} ${words.weights}`, data: (value) => `${count(value)} ${words.unit}`,
    sparsity: percent, items: (value) => `${count(value)} ${words.unit_a_year}`,
  };
  const start = () => ({ ...given.start });
  let set = start();

  const STEPS = 400;
  const place = (name, value) => {
    const [low, high] = given.ranges[name];
    const share = name === "sparsity" ? (value - low) / (high - low) : Math.log(value / low) / Math.log(high / low);
    return Math.round(STEPS * share);
  };
  const valueAt = (name, step) => {
    const [low, high] = given.ranges[name], share = step / STEPS;
    return name === "sparsity" ? low + share * (high - low) : low * Math.pow(high / low, share);
  };
  function fill(id, text) { at(id).textContent = text; }

  function drawSliders() {
    for (const name of Object.keys(shown)) {
      const text = shown[name](set[name]);
      fill(`${name}-value`, text);
      at(name).setAttribute("aria-valuetext", text);
    }
  }
  function drawNumbers(found) {
    const rows = {
      weights: [count(set.nonzero), count(found.nonzero)], all: [count(set.nonzero), count(found.nonzero / (1 - set.sparsity))],
      loss: [nats(found.target), nats(found.target)], same: [nats(found.target), nats(found.same_size)],
      training: [duration(found.dense.training), duration(found.sparse.training)],
      total: [money(found.dense.total), money(found.sparse.total)],
    };
    for (const [name, [dense, sparse]] of Object.entries(rows)) { fill(`${name}-dense`, dense); fill(`${name}-sparse`, sparse); }
    const sure = band(set);
    fill("npv", sure && sure.npv ? said("band", { money: money(found.npv), low: money(sure.npv[0]), high: money(sure.npv[1]), share: percent(sure.share) }) : money(found.npv));
    fill("head-sparse", said("sparse_head", { sparsity: percent(set.sparsity) }));
    fill("required", shown.data(found.required));
    const { side, value } = found.break_even;
    fill("break-even", said(`break_${side}`, { items: value === null ? "" : shown.items(value) }));
    const beyond = Object.keys(given.known).filter((name) => set[name] < given.known[name][0] * 0.999 || set[name] > given.known[name][1] * 1.001);
    fill("beyond", beyond.length ? said("beyond", { names: beyond.map((name) => words[`name_${name}`]).join(words.comma) }) : "");
  }
  function drawAdvice() {
    const best = recommend(set);
    const text = said(best.choice, { sparsity: percent(best.sparsity), money: money(best.npv), years: given.horizon_years, dtype: best.dtype || "" });
    if (at("now").textContent !== text) fill("now", text);
  }

  // ---- two small charts against sparsity
  const draw = (parent, name, attributes, text) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return parent.appendChild(made);
  };
  function chart(id, { values, spread, level, current, format, label }) {
    const svg = at(id), [left, right, top, bottom] = [58, 330, 12, 150], most = given.ranges.sparsity[1];
    const between = spread.filter(([, range]) => range && range.every(Number.isFinite));
    const finite = [...values.map(([, value]) => value), level].filter(Number.isFinite), tall = Math.max(...finite) - Math.min(...finite);
    const edges = between.flatMap(([, range]) => range); // a wide band is cut, lest it flatten the curve
    const low = Math.min(...finite, Math.max(Math.min(...edges, Infinity), Math.min(...finite) - tall));
    const high = Math.max(...finite, Math.min(Math.max(...edges, -Infinity), Math.max(...finite) + tall)), room = (high - low || Math.abs(high) || 1) * 0.08;
    const x = (S) => left + (S / most) * (right - left);
    const y = (value) => bottom - ((value - low + room) / (high - low + 2 * room)) * (bottom - top);
    svg.replaceChildren();
    svg.setAttribute("aria-label", label);
    for (const value of [low, (low + high) / 2, high]) {
      draw(svg, "line", { class: "grid", x1: left, x2: right, y1: y(value), y2: y(value) });
      draw(svg, "text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, format(value));
    }
    for (const S of [0, 0.25, 0.5, 0.75].filter((one) => one <= most))
      draw(svg, "text", { x: x(S), y: bottom + 16, "text-anchor": "middle" }, percent(S));
    draw(svg, "line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom });
    draw(svg, "line", { class: "level", x1: left, x2: right, y1: y(level), y2: y(level) });
    const points = (pairs) => pairs.map(([S, value]) => `${x(S).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
    const edge = (side) => between.map(([S, range]) => [S, Math.min(Math.max(range[side], low), high)]);
    if (between.length) draw(svg, "polygon", { class: "band", points: points([...edge(0), ...edge(1).reverse()]) });
    draw(svg, "polyline", { class: "curve", points: points(values.filter(([, value]) => Number.isFinite(value))) });
    if (Number.isFinite(current)) draw(svg, "circle", { class: "dot", cx: x(set.sparsity), cy: y(current), r: 6 });
    const above = y(level) > (top + bottom) / 2 ? -6 : 15;
    draw(svg, "text", { class: "strong", x: right, y: y(level) + above, "text-anchor": "end" }, words.dense);
  }
  function drawCharts(found) {
    const most = given.ranges.sparsity[1], levels = (parts) => Array.from({ length: parts + 1 }, (_, index) => (most * index) / parts);
    const total = (S) => cost(option("train-sparse", S, set), set).total, lost = (S) => loss(S, set.nonzero, set.data);
    const spread = (value) => (given.draws.length ? levels(12).map((S) => [S, ends(drawn(() => value(S)))]) : []);
    const S = percent(set.sparsity), values = (value) => levels(60).map((one) => [one, value(one)]);
    chart("cost-chart", {
      values: values(total), spread: spread(total), level: found.dense.total, current: found.sparse.total, format: count,
      label: said("cost_alt", { sparsity: S, sparse: money(found.sparse.total), dense: money(found.dense.total) }),
    });
    chart("loss-chart", {
      values: values(lost), spread: spread(lost), level: found.target, current: found.same_size, format: (value) => value.toFixed(3),
      label: said("loss_alt", { sparsity: S, sparse: nats(found.same_size), dense: nats(found.target) }),
    });
  }
  let soon = 0;
  function update() {
    const found = evaluate(set);
    drawSliders();
    drawNumbers(found);
    drawCharts(found);
    clearTimeout(soon); // a moving slider is announced once it rests
    soon = setTimeout(drawAdvice, 250);
  }
  function reset() {
    set = start();
    for (const name of Object.keys(shown)) at(name).value = place(name, set[name]);
    at("hardware").value = set.hardware;
    update();
  }
  for (const name of Object.keys(shown)) {
    Object.assign(at(name), { min: 0, max: STEPS, step: 1 });
    at(name).addEventListener("input", (event) => { set[name] = valueAt(name, Number(event.target.value)); update(); });
  }
  given.profiles.forEach((profile, index) => at("hardware").add(new Option(profile.name, index)));
  at("hardware").addEventListener("change", (event) => { set.hardware = Number(event.target.value); update(); });
  at("form").addEventListener("submit", (event) => event.preventDefault());
  at("reset").addEventListener("click", reset);
  reset();
  drawAdvice();
  at("live").hidden = false;
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
  return { loss, equalQualitySize, interpolated, evaluate, band, inTypes, recommend, settings: () => ({ ...set }) };
})();
