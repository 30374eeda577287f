/* Quizzes: a "Check" button for each question, and a score. Without this script the folded answers remain. */
(() => {
  "use strict";
  for (const quiz of document.querySelectorAll("div.quiz")) {
    const questions = [...quiz.querySelectorAll("fieldset.quiz-question")];
    const score = document.createElement("p");
    score.className = "quiz-score";
    score.setAttribute("role", "status");
    questions.forEach((question, index) => {
      const answer = question.querySelector("details");
      const button = document.createElement("button");
      const verdict = document.createElement("p");
      button.type = "button";
      button.textContent = `Check ${index + 1}`;
      verdict.className = "quiz-verdict";
      verdict.setAttribute("role", "status");
      button.addEventListener("click", () => {
        const chosen = question.querySelector("input:checked");
        question.classList.remove("quiz-right", "quiz-wrong");
        if (!chosen) {
          verdict.textContent = "Choose an answer first.";
          return;
        }
        const right = chosen.value === question.dataset.right;
        question.dataset.first ??= String(right);
        question.classList.add(right ? "quiz-right" : "quiz-wrong");
        verdict.textContent = right ? "Right." : "Not this one. Try another, or open the answer.";
        if (right) answer.open = true;
        const done = questions.filter((q) => q.dataset.first);
        score.textContent = `${done.filter((q) => q.dataset.first === "true").length} of ${done.length} right at the first try`
          + (done.length < questions.length ? `, ${questions.length - done.length} to go.` : ".");
      });
      question.addEventListener("change", () => {
        question.classList.remove("quiz-right", "quiz-wrong");
        verdict.textContent = "";
      });
      answer.before(button, verdict);
    });
    quiz.append(score);
  }
})();
