"""What people would answer in an experiment, as a trained model predicts it (`scripts/predict.py`)."""
