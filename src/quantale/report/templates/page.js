"use strict";
{
  const body = document.querySelector("#numbers tbody");
  const heads = [...document.querySelectorAll("#numbers thead th")];
  const value = (row, i) => row.cells[i].dataset.sort;
  const order = (a, b) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    return isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b;
  };
  heads.forEach((head, i) => {
    const word = head.querySelector(".sort");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = word.textContent;
    word.replaceChildren(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [value(a, i), value(b, i)];
        return x === "" || y === "" || up ? order(x, y) : order(y, x);
      });
      body.append(...rows);
    });
  });
  const details = [...document.querySelectorAll("details")];
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = details.filter((one) => !one.open);
    closed.forEach((one) => (one.open = true));
  });
  addEventListener("afterprint", () => closed.forEach((one) => (one.open = false)));
}
