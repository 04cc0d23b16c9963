"use strict";
// Tables of the class `sortable`: a button in each column's header sorts by the cells' data-sort, and sorts the other
// way when used again. Numbers are compared as numbers; cells without a value stay last either way.

(function () {
  const names = new Intl.Collator("en", { sensitivity: "base", numeric: true });
  const key = (row, column) => row.cells[column].getAttribute("data-sort");
  const isNumber = (text) => text === "" || !Number.isNaN(Number(text));

  function compare(a, b, asNumbers, sign) {
    if (a === "" || b === "") return (a === "") - (b === "");
    return sign * (asNumbers ? (Number(a) > Number(b)) - (Number(a) < Number(b)) : names.compare(a, b));
  }

  function sort(table, column) {
    const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0], rows = [...body.rows];
    const isDown = heads[column].getAttribute("aria-sort") === "ascending";
    const asNumbers = rows.every((row) => isNumber(key(row, column)));
    rows.sort((a, b) => compare(key(a, column), key(b, column), asNumbers, isDown ? -1 : 1));
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    heads[column].setAttribute("aria-sort", isDown ? "descending" : "ascending");
    body.append(...rows);
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      button.addEventListener("click", () => sort(table, column));
      head.replaceChildren(button);
    });
  }
  for (const hint of document.querySelectorAll(".needs-script")) hint.hidden = false;
})();
