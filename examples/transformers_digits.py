"""A small BERT that reads handwritten digits as sequences of 64 brightnesses, logged by a callback.

Usage: python transformers_digits.py [FILE]
"""

import sys
import tempfile

from sklearn.datasets import load_digits
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from casket import Experiment as E
from casket_integrations.transformers import CasketCallback

model = E.use(sys.argv[1] if len(sys.argv) > 1 else "runs.json", exp_id="digits").model("BERT")
X, y = load_digits(return_X_y=True)
data = [{"input_ids": row, "labels": label} for row, label in zip(X.astype(int), y, strict=True)]
config = BertConfig(
    vocab_size=17,
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
    max_position_embeddings=64,
    num_labels=10,
)

with tempfile.TemporaryDirectory() as folder:
    arguments = TrainingArguments(
        folder,
        num_train_epochs=2,
        learning_rate=0.01,
        per_device_train_batch_size=64,
        logging_steps=2,
        eval_strategy="epoch",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = Trainer(
        BertForSequenceClassification(config),
        arguments,
        train_dataset=data[:512],
        eval_dataset=data[512:640],
        callbacks=[CasketCallback(model)],
    )
    trainer.train()

session = model.sessions()[-1]
print(f"{session.status}, eval_loss by epoch: {[row['eval_loss'] for row in session.epochs]}")
