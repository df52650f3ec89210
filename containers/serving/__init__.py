"""How does a pod turn a prompt into pictures, on whatever accelerator it has, and when does it refuse?"""
