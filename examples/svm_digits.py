"""A support vector machine on scikit-learn's handwritten digits, logged as one result.

Usage: python svm_digits.py [FILE]
"""

import sys

from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

import casket
from casket import Experiment as E


def main(url: str) -> None:
    """Train, test, log, and read back what was logged."""
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)

    classifier = SVC(gamma=0.001)
    classifier.fit(X_train, y_train)
    predicted = classifier.predict(X_test)

    model = E.use(url, exp_id="digits").model("SVM", model_config=classifier.get_params())
    model.add_result({"accuracy": accuracy_score(y_test, predicted), "y_pred": predicted})

    with casket.open(url) as runs:
        session = runs.sessions(model="SVM")[-1]
        print(f"{url}: session {session.id} {session.status}, {session.last['accuracy']:.1%} right")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs.json")
