#!/bin/sh
# 20261126_174905_gainsum_gainsum
# As typed: gainakt train --config gainsum --data data --out runs --d_model 8 --n_heads 2 --d_ff 8 --epochs 2 --threads 1 --short_title gainsum --seq_len 30 --bootstrap_samples 100 --quiet --n_block_heads 2 --teachers 1 --teacher_epochs 1
# Usage: ./run.sh [train|evaluate|reproduce]; without an argument, evaluate.
set -e
case "${1:-evaluate}" in
train)
    gainakt train --data=/tmp/oldrun/data --out=/tmp/oldrun/runs --seed=42 --monitor_freq=50 --use_amp=false --use_wandb=false --use_mlflow=false --enable_cosine_perf_schedule=false --auto_shifted_eval=true --deterministic=true --devices=auto --threads=1 --cuda_graphs=auto --compile=auto --primary=42 --all 42 --epochs=2 --batch_size=32 --learning_rate=0.002 --weight_decay=0.01 --optimizer=adamw --mixed_precision=bf16 --gradient_clip=1.0 --patience=2 --beta2=0.99 --learning_rate_schedule=cosine --warmup_steps=50 --teachers=1 --teacher_epochs=1 --teacher_weight=0.8 --weight_average=0.99 --model=gainsum --short_title=gainsum '--purpose=Exact sums of signed gains: a small model on simulated students' --dataset=simulated --fold=0 --test_fold=-1 --use_mastery_head=false --use_gain_head=false --enhanced_constraints=false --non_negative_loss_weight=0.0 --monotonicity_loss_weight=0.1 --mastery_performance_loss_weight=0.8 --gain_performance_loss_weight=0.8 --sparsity_loss_weight=0.2 --consistency_loss_weight=0.3 --warmup_constraint_epochs=8 --max_semantic_students=50 --enable_alignment_loss=false --alignment_weight=0.25 --alignment_warmup_epochs=8 --adaptive_alignment=true --alignment_min_correlation=0.05 --alignment_share_cap=0.08 --alignment_share_decay_factor=0.7 --enable_global_alignment_pass=false --alignment_global_students=600 --use_residual_alignment=true --alignment_residual_window=5 --enable_retention_loss=false --retention_delta=0.005 --retention_weight=0.14 --enable_lag_gain_loss=false --lag_gain_weight=0.06 --lag_max_lag=3 --lag_l1=0.5 --lag_l2=0.3 --lag_l3=0.2 --consistency_rebalance_epoch=8 --consistency_rebalance_threshold=0.1 --consistency_rebalance_new_weight=0.2 --variance_floor=0.0001 --variance_floor_patience=3 --variance_floor_reduce_factor=0.5 --seq_len=30 --d_model=8 --n_heads=2 --n_block_heads=2 --d_ff=8 --dropout=0.2 --weights=in_context --window_stride=20 --bootstrap_samples=100
    ;;
evaluate)
    gainakt evaluate /tmp/oldrun/runs/20261126_174905_gainsum_gainsum --split test
    ;;
reproduce)
    gainakt reproduce /tmp/oldrun/runs/20261126_174905_gainsum_gainsum
    ;;
*)
    echo "unknown step $1; allowed: train, evaluate, reproduce" >&2
    exit 2
    ;;
esac
