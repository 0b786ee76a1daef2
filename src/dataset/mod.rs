//! Data sets on disk: YOLO folders with pictures and boxes.
