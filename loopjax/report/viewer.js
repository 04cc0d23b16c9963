"use strict";
// The walk viewer: one state (group, student, temperature, walk, step), and `draw` which shows it.
// Nodes are numbered as in loopjax.star_graph: s = 0, r = 1, node j of chain i = 2 + i * length + j - 1.

(function () {
  const groups = JSON.parse(document.getElementById("data").textContent).groups;
  const element = (id) => document.getElementById(id);
  const state = { group: 0, student: 0, temperature: 0, walk: 0, step: 0 };
  const COLUMN = 76, ROW = 88, RADIUS = 18, BAR = 36, MILLISECONDS = 700, SHOWN = 10;
  let timer = null;

  if (groups.length === 0) {
    element("no-walks").hidden = false;
    return;
  }
  element("viewer").hidden = false;

  // The state's data.
  const group = () => groups[state.group];
  const student = () => group().students[state.student];
  const walks = () => student().walks[state.temperature];
  const walk = () => walks()[state.walk];
  const numNodes = () => 2 + group().chains * group().length;
  const goalNode = () => 1 + group().length * (walk().goal + 1);
  const percent = (thousandths) => (thousandths / 10).toFixed(0 < thousandths && thousandths < 100 ? 1 : 0) + "%";

  function nodeName(node) {
    if (node === 0) return "s";
    if (node === 1) return "r";
    if (node >= numNodes()) return "off the graph";
    const chain = Math.floor((node - 2) / group().length);
    return String.fromCharCode(97 + (chain % 26)) + (((node - 2) % group().length) + 1);
  }

  // Node -> thousandths, of a row [node, thousandths, ...].
  function probabilities(row) {
    const found = new Map();
    for (let i = 0; row && i < row.length; i += 2) found.set(row[i], row[i + 1]);
    return found;
  }

  // What both find less likely than SHOWN thousandths would only be in the way; the table sums it up.
  const isShown = (node, ...given) => given.some((values) => (values.get(node) || 0) >= SHOWN);

  // Which repetition of the loop a step lies in, from 0; null outside.
  function repetition(step) {
    const loop = walk().loop;
    if (!loop || step < loop[0] || step >= loop[0] + loop[3]) return null;
    return Math.floor((step - loop[0]) / loop[1]);
  }

  function outcome(one) {
    if (one.nodes.includes(1 + group().length * (one.goal + 1))) return "reaches the goal";
    return one.loop ? "loops" : "is cut";
  }

  // Elements.
  function svg(name, attributes, ...children) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  function html(name, className, ...children) {
    const made = document.createElement(name);
    if (className) made.className = className;
    made.append(...children);
    return made;
  }

  // The graph.
  function place(node) {
    const middle = (Math.max(group().chains, 4) * COLUMN) / 2;
    if (node === 0) return [middle, 34];
    if (node === 1) return [middle, 34 + ROW];
    const chain = Math.floor((node - 2) / group().length), depth = ((node - 2) % group().length) + 1;
    return [middle + (chain - (group().chains - 1) / 2) * COLUMN, 34 + ROW * (depth + 1)];
  }

  const parent = (node) => (node < 2 || (node - 2) % group().length > 0 ? node - 1 : 1);

  // The way of a move: straight along an edge, else a bow past the nodes between, on the side away from the middle.
  function way(from, to) {
    const [x, y] = place(from), [u, v] = place(to), gap = RADIUS + 6;
    if (from === to) return `M${x - gap} ${y - 6}c-34 -30 -34 42 0 12`;
    if (parent(to) === from && from !== to) {
      const length = Math.hypot(u - x, v - y), dx = (gap * (u - x)) / length, dy = (gap * (v - y)) / length;
      return `M${x + dx} ${y + dy}L${u - dx} ${v - dy}`;
    }
    const side = from !== 1 && x >= place(0)[0] ? 1 : -1, bow = from === 1 ? 26 : 48;
    const begin = [x + side * gap * 0.8, y - gap * 0.6], end = [u + side * gap * 0.6, v + gap * 0.8];
    const controls = [x + side * bow, (2 * y + v) / 3, u + side * bow + (x - u) * 0.7, v + 46];
    return `M${begin.join(" ")}C${controls.join(" ")} ${end.join(" ")}`;
  }

  function loopEdges() {
    const { loop, nodes } = walk();
    if (!loop) return [];
    const moves = new Set();
    for (let i = loop[0]; i < loop[0] + loop[1]; i++) moves.add(way(nodes[i], nodes[i + 1]));
    return [...moves].map((d) => svg("path", { class: "loop-edge", d }));
  }

  // Where a node's numbers stand, the student's (index 0) and the teacher's: right of the bars of s and r, else below.
  function beside(node, index) {
    const [x, y] = place(node);
    if (node < 2) return { x: x + RADIUS + 28, y: y - 3 + 15 * index, style: "text-anchor: start" };
    const [shift, anchor] = index === 0 ? [-3, "end"] : [3, "start"];
    return { x: x + shift, y: y + RADIUS + 17, style: `text-anchor: ${anchor}` };
  }

  function bars(node, ofStudent, ofTeacher) {
    if (!isShown(node, ofStudent, ofTeacher)) return [];
    const [x, y] = place(node), parts = [];
    for (const [index, [kind, values]] of [["student", ofStudent], ["teacher", ofTeacher]].entries()) {
      const height = (BAR * (values.get(node) || 0)) / 1000, left = x + RADIUS + 6 + 9 * index, bottom = y + BAR / 2;
      parts.push(svg("rect", { class: "track", x: left, y: bottom - BAR, width: 7, height: BAR, rx: 2 }));
      parts.push(svg("rect", { class: `${kind}-bar`, x: left, y: bottom - height, width: 7, height, rx: 2 }));
      const text = svg("text", { class: `${kind}-text`, ...beside(node, index) });
      text.textContent = Math.round((values.get(node) || 0) / 10);
      parts.push(text);
    }
    return parts;
  }

  function disc(node, seen, inLoop) {
    const [x, y] = place(node), here = walk().nodes[state.step] === node;
    const made = svg("g", { class: here ? "here" : seen.has(node) ? "seen" : "" });
    made.append(svg("circle", { class: "disc", cx: x, cy: y, r: RADIUS }));
    if (node === goalNode()) {
      made.append(svg("circle", { class: "goal-ring", cx: x, cy: y, r: RADIUS + 4 }));
      const text = svg("text", { class: "goal-text", x, y: y + RADIUS + 32 });
      text.textContent = "★ goal";
      made.append(text);
    }
    if (inLoop.has(node)) made.append(svg("circle", { class: "loop-ring", cx: x, cy: y, r: RADIUS + 4 }));
    const name = svg("text", { class: "name", x, y: y + 4.5 });
    name.textContent = nodeName(node);
    made.append(name);
    return made;
  }

  function arrow() {
    const { nodes } = walk(), to = nodes[state.step + 1];
    if (to === undefined || to >= numNodes() || nodes[state.step] >= numNodes()) return [];
    const size = { viewBox: "0 0 10 10", refX: 8, refY: 5, markerWidth: 6, markerHeight: 6 };
    const head = svg("marker", { id: "head", orient: "auto", ...size });
    head.append(svg("path", { class: "arrow", d: "M0 0 10 5 0 10z" }));
    const move = svg("path", { class: "move", d: way(nodes[state.step], to), "marker-end": "url(#head)" });
    return [svg("defs", {}, head), move];
  }

  function drawGraph(ofStudent, ofTeacher) {
    const nodes = [...Array(numNodes()).keys()], { loop } = walk();
    const seen = new Set(walk().nodes.slice(0, state.step + 1));
    const inLoop = new Set(loop ? walk().nodes.slice(loop[0], loop[0] + loop[1]) : []);
    const edges = nodes.slice(1).map((node) => {
      const [x1, y1] = place(parent(node)), [x2, y2] = place(node);
      return svg("line", { class: "edge", x1, y1, x2, y2 });
    });
    const canvas = element("graph"), width = Math.max(group().chains, 4) * COLUMN;
    canvas.setAttribute("viewBox", `-24 0 ${width + 56} ${34 + ROW * (group().length + 1) + 60}`);
    canvas.replaceChildren(
      ...edges, ...loopEdges(), ...nodes.map((node) => disc(node, seen, inLoop)), ...arrow(),
      ...nodes.flatMap((node) => bars(node, ofStudent, ofTeacher)),
    );
  }

  // What is said beside the graph.
  function meter(kind, thousandths) {
    const fill = html("u"), bar = html("i", "", fill);
    fill.style.width = `${thousandths / 10}%`;
    return html("td", "", html("div", `meter ${kind}`, html("b", "", percent(thousandths)), bar));
  }

  function moveRow(name, isTaken, ofStudent, ofTeacher) {
    const head = html("th", "", name);
    head.scope = "row";
    return html("tr", isTaken ? "taken" : "", head, meter("student", ofStudent), meter("teacher", ofTeacher));
  }

  function drawMoves(ofStudent, ofTeacher) {
    const taken = walk().nodes[state.step + 1];
    const all = [...new Set([...ofStudent.keys(), ...ofTeacher.keys()])].sort((a, b) => a - b);
    const shown = all.filter((node) => node === taken || isShown(node, ofStudent, ofTeacher));
    const rest = (values) => all.reduce((sum, node) => sum + (shown.includes(node) ? 0 : values.get(node) || 0), 0);
    const rows = shown.map((node) => {
      const name = (node === goalNode() ? "★ " : "") + nodeName(node) + (node === taken ? " ← taken" : "");
      return moveRow(name, node === taken, ofStudent.get(node) || 0, ofTeacher.get(node) || 0);
    });
    if (shown.length < all.length) {
      rows.push(moveRow(`${all.length - shown.length} others`, false, rest(ofStudent), rest(ofTeacher)));
    }
    element("moves").tBodies[0].replaceChildren(...rows);
    element("moves").hidden = rows.length === 0;
  }

  function whatHappens(ofStudent) {
    const { nodes, invalid, loop } = walk(), here = nodes[state.step], next = nodes[state.step + 1];
    const parts = [`Node ${state.step + 1} of ${nodes.length}: at ${nodeName(here)}.`];
    if (next === undefined) {
      const cut = `The walk is cut after ${group().cut} nodes.`;
      parts.push(here === goalNode() ? "This is the goal: the walk ends." : cut);
    } else {
      const [likeliest, most] = [...ofStudent].reduce((best, one) => (one[1] > best[1] ? one : best), [null, -1]);
      if (likeliest !== null) parts.push(`Likeliest for the student: ${nodeName(likeliest)}, ${percent(most)}.`);
      parts.push(`It goes to ${nodeName(next)}${invalid.includes(state.step) ? ", an invalid move" : ""}.`);
    }
    const index = repetition(state.step);
    if (index !== null && index < loop[2]) parts.push(`In the loop, repetition ${index + 1} of ${loop[2]}.`);
    if (index !== null && index >= loop[2]) parts.push("In the loop, which breaks off.");
    return parts.join(" ");
  }

  function drawOutcome() {
    const { loop, nodes } = walk(), what = outcome(walk()), parts = [html("b", "", `This walk ${what}`)];
    if (loop) {
      const cycle = nodes.slice(loop[0], loop[0] + loop[1]).map(nodeName).join(" → ");
      parts.push(`: from node ${loop[0] + 1} on it repeats ${cycle}, ${loop[2]} times`);
    }
    parts.push(what === "reaches the goal" ? `, at node ${nodes.length}.` : `, and has ${nodes.length} nodes.`);
    const [done, all] = group().steps;
    if (done < all) parts.push(` The student is unfinished: ${done} of ${all} steps.`);
    if (group().goalHidden) parts.push(" The prompt hides the goal from it.");
    if (group().walksAs) parts.push(` It walks as its remedy asks: ${group().walksAs}.`);
    element("outcome").replaceChildren(...parts);
  }

  function drawStrip() {
    const { nodes, invalid } = walk();
    element("strip").replaceChildren(...nodes.map((node, step) => {
      const index = repetition(step), names = [];
      if (index !== null) names.push("loop", index % 2 ? "odd" : "even");
      if (invalid.includes(step - 1)) names.push("invalid");
      if (step === state.step) names.push("here");
      const cell = html("span", names.join(" "), nodeName(node) + (node === goalNode() ? "★" : ""));
      cell.addEventListener("click", () => go(step));
      return cell;
    }));
  }

  function drawConfidence() {
    const { nodes, student: rows, loop } = walk(), canvas = element("confidence"), last = Math.max(nodes.length - 1, 1);
    const points = rows.map((row, step) => `${step + 1},${100 - Math.max(...probabilities(row).values()) / 10}`);
    canvas.setAttribute("viewBox", `0 -5 ${last} 110`);
    canvas.replaceChildren(
      ...(loop ? [svg("rect", { class: "loop", x: loop[0], y: -5, width: loop[3] - 1, height: 110 })] : []),
      svg("polyline", { class: "curve", points: points.join(" ") }),
      svg("line", { class: "cursor", x1: state.step, x2: state.step, y1: -5, y2: 105 }),
    );
  }

  function draw() {
    const { nodes, student: rows, teacher } = walk(), slider = element("step");
    const ofStudent = probabilities(rows[state.step]), ofTeacher = probabilities(teacher[state.step]);
    slider.max = nodes.length - 1;
    slider.value = state.step;
    element("now").textContent = whatHappens(ofStudent);
    slider.setAttribute("aria-valuetext", `node ${state.step + 1} of ${nodes.length}, ${nodeName(nodes[state.step])}`);
    drawGraph(ofStudent, ofTeacher);
    drawMoves(ofStudent, ofTeacher);
    drawOutcome();
    drawStrip();
    drawConfidence();
  }

  // Choices.
  function fill(id, names) {
    element(id).replaceChildren(...names.map((name, index) => new Option(name, index, false, index === state[id])));
  }

  function choose() {
    state.student = Math.min(state.student, group().students.length - 1);
    fill("group", groups.map((one) => `${one.name}, G(${one.chains},${one.length})`));
    fill("student", group().students.map((one) => [one.condition, `seed ${one.seed}`].filter(Boolean).join(", ")));
    fill("temperature", group().temperatures.map((value) => (value === 0 ? "0, greedy" : String(value))));
    fill("walk", walks().map((one, index) => `${index + 1}: ${outcome(one)}`));
    state.step = 0;
    draw();
  }

  function go(step) {
    state.step = Math.min(Math.max(step, 0), walk().nodes.length - 1);
    if (state.step === walk().nodes.length - 1) stop();
    draw();
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    element("play").textContent = "Play";
    element("now").setAttribute("aria-live", "polite");
  }

  function play() {
    if (timer !== null) return stop();
    if (state.step === walk().nodes.length - 1) state.step = 0;
    element("play").textContent = "Pause";
    element("now").setAttribute("aria-live", "off"); // a screen reader could not keep up
    timer = setInterval(() => go(state.step + 1), MILLISECONDS);
    draw();
  }

  for (const id of ["group", "student", "temperature", "walk"]) {
    element(id).addEventListener("change", (event) => {
      stop();
      state[id] = Number(event.target.value);
      choose();
    });
  }
  element("step").addEventListener("input", (event) => go(Number(event.target.value)));
  element("previous").addEventListener("click", () => go(state.step - 1));
  element("next").addEventListener("click", () => go(state.step + 1));
  element("play").addEventListener("click", play);
  element("confidence").addEventListener("click", (event) => {
    const box = element("confidence").getBoundingClientRect();
    go(Math.round(((event.clientX - box.left) / box.width) * (walk().nodes.length - 1)));
  });
  element("viewer").addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: state.step - 1, ArrowRight: state.step + 1, Home: 0, End: Infinity };
    if (!(event.key in moves) || ["SELECT", "INPUT"].includes(event.target.tagName)) return; // they move by themselves
    event.preventDefault();
    go(moves[event.key]);
  });

  // Begin where there is something to see: at the root, in the greedy walk with the longest loop.
  let longest = 0;
  groups.forEach((one, index) => one.students.forEach((two, row) => two.walks[0].forEach((three, number) => {
    if (three.loop && three.loop[2] > longest) {
      longest = three.loop[2];
      Object.assign(state, { group: index, student: row, walk: number });
    }
  })));
  choose();
  go(1);
})();
