using System;
using System.Text.Json;
using System.Threading;
using System.Threading.Tasks;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using NudgeOnnx;

// A minimal web service: POST /answer {"prompt": "...", "gamma": 0.4} streams pieces as server-sent events.
var builder = WebApplication.CreateBuilder(args);
var app = builder.Build();

// One model for all requests; each has its own stream and KV caches.
using var model = NudgedModel.Load(args.Length > 0 ? args[0] : "bundle");

// A computer has so many cores: more answers at once would only be slower, so further requests wait.
using var places = new SemaphoreSlim(2);

app.MapPost("/answer", async (Question question, HttpContext context) =>
{
    // Ends when the client hangs up, which also ends the answer.
    var gone = context.RequestAborted;
    AnswerStream stream;
    try
    {
        stream = model.Stream(question.Prompt, new StreamOptions { Gamma = question.Gamma }, gone);
    }
    catch (NudgeException error)
    {
        context.Response.StatusCode = StatusCodes.Status400BadRequest;
        await context.Response.WriteAsJsonAsync(new { error = error.Message }, gone);
        return;
    }
    context.Response.ContentType = "text/event-stream";
    await places.WaitAsync(gone);
    try
    {
        await foreach (var piece in stream.WithCancellation(gone))
        {
            await Send("piece", new { text = piece.Text, source = piece.Source.ToString().ToLowerInvariant() });
        }
        await Send("end", new { finish_reason = stream.Answer.FinishReason.ToString().ToLowerInvariant() });
    }
    finally
    {
        places.Release();
    }

    async Task Send(string name, object data)
    {
        await context.Response.WriteAsync($"event: {name}\ndata: {JsonSerializer.Serialize(data)}\n\n", gone);
        await context.Response.Body.FlushAsync(gone);
    }
});

app.Run();

/// <summary>The body of a request.</summary>
/// <param name="Prompt">What the user asks.</param>
/// <param name="Gamma">Nudge where the base model is less certain than this; the bundle's default if left out.</param>
internal sealed record Question(string Prompt, double? Gamma = null);
